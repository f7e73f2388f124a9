/* Classifies a picture (PPM, P6) that has the size of the model: classify MODEL.biper PICTURE.ppm */
#include <biper.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    biper_model *model = NULL;
    biper_array image, result;
    int width = 0, height = 0, best = 0;
    FILE *file = argc == 3 ? fopen(argv[2], "rb") : NULL;
    if (!file || fscanf(file, "P6 %d %d 255", &width, &height) != 2 || fgetc(file) == EOF)
        return fprintf(stderr, "usage: classify MODEL.biper PICTURE.ppm\n"), 2;
    if (biper_load(argv[1], NULL, &model) || biper_input(model, 0, &image) || biper_output(model, 0, &result))
        return fprintf(stderr, "%s\n", biper_error_text()), 1;
    if (image.sizes[0] != 3 || image.sizes[1] != height || image.sizes[2] != width)
        return fprintf(stderr, "the model takes pictures of %d x %d\n", (int)image.sizes[2], (int)image.sizes[1]), 1;
    uint8_t *pixels = malloc((size_t)image.elements);
    float *scores = malloc((size_t)result.elements * sizeof(float));
    if (!pixels || !scores || fread(pixels, 1, (size_t)image.elements, file) != (size_t)image.elements)
        return fprintf(stderr, "%s is cut short\n", argv[2]), 1;
    if (biper_run_pixels(model, pixels, NULL, 1, &scores)) return fprintf(stderr, "%s\n", biper_error_text()), 1;
    for (int i = 1; i < result.elements; ++i)
        if (scores[i] > scores[best]) best = i;
    printf("%s %.9g\n", biper_class_name(model, (size_t)best), (double)scores[best]);
    free(scores), free(pixels), fclose(file);
    biper_free(model);
    return 0;
}
