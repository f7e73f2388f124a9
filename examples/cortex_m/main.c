/* Classifies the images in images.h, which run.py writes, and compares the classes with the expected ones there. */
#include "board.h"
#include "images.h"
#include "model.h"

static const char *const classes[] = {MODEL_CLASSES};

int main(void)
{
    uint32_t image, output, same = 0, correct = 0, instructions = 0;
    for (image = 0; image < IMAGES; ++image) {
        result_t outputs[MODEL_OUTPUTS];
        uint32_t best = 0;
#ifdef BOARD_PROFILE
        board_profile_start();
#else
        board_count_start();
#endif
        model_run(images[image], outputs);
        instructions += board_count() / IMAGES;
        for (output = 1; output < MODEL_OUTPUTS; ++output)
            if (outputs[output] > outputs[best]) best = output;
        if (best == answers[image]) ++same;
        if (best == labels[image]) ++correct;
        if (image < 10) {
            board_write(classes[labels[image]]);
            board_write(" is classified as ");
            board_write(classes[best]);
            board_write("\n");
        }
    }
#ifdef BOARD_PROFILE
    board_profile_print();
#endif
    board_write_number(same);
    board_write(" of ");
    board_write_number(IMAGES);
    board_write(" as expected, ");
    board_write_number(correct);
    board_write(" right, ");
    board_write_number(instructions);
    board_write(" instructions an image\n");
    return same == IMAGES ? 0 : 1;
}
