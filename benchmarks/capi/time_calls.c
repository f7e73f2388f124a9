/* Prints the microseconds of each of COUNT calls on one image: time_calls MODEL.biper COUNT [INSTRUCTION_SET] */
#define _POSIX_C_SOURCE 199309L
#include <biper.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

int main(int argc, char **argv)
{
    biper_model *model = NULL;
    biper_options options;
    biper_array image, result;
    biper_options_init(&options);
    if (argc > 3) options.instruction_set = argv[3];
    if (argc < 3 || biper_load(argv[1], &options, &model) || biper_input(model, 0, &image) ||
        biper_output(model, 0, &result))
        return fprintf(stderr, "%s\n", biper_error_text()), 1;
    uint8_t *pixels = malloc((size_t)image.elements);
    float *scores = malloc((size_t)result.elements * sizeof(float));
    if (!pixels || !scores) return 1;
    for (int64_t i = 0; i < image.elements; ++i) pixels[i] = (uint8_t)(i * 37 % 256);
    for (int i = 0; i < atoi(argv[2]); ++i) {
        struct timespec start, end;
        clock_gettime(CLOCK_MONOTONIC, &start);
        if (biper_run_pixels(model, pixels, NULL, 1, &scores)) return 1;
        clock_gettime(CLOCK_MONOTONIC, &end);
        printf("%.3f\n", (double)(end.tv_sec - start.tv_sec) * 1e6 + (double)(end.tv_nsec - start.tv_nsec) / 1e3);
    }
    free(scores), free(pixels);
    biper_free(model);
    return 0;
}
