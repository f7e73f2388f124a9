// clang-format Language: C
/* Features of speech in integers; mel.py says what they are and computes the same in NumPy. */
#ifndef MEL_H
#define MEL_H
#include <stdint.h>

/* The features of the frame that begins at samples[0]: 32 numbers. samples[-1] is read too, but for `first`, where it
   counts as 0. */
void frame_features(const int16_t *samples, int first, int16_t *features);

#endif
