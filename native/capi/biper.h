/* libbiper: loads packed 1-bit networks (.biper files) and runs them. C99; there is no Python in it.
 *
 * A model is loaded once and may then be used by many threads at the same time. Every function that can fail returns a
 * biper_status; biper_error_text() then says in one line what was expected, what came and what to do. No function
 * throws, ends the process or prints.
 */
#ifndef BIPER_H
#define BIPER_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32) && defined(BIPER_SHARED)
#ifdef BIPER_BUILDS
#define BIPER_API __declspec(dllexport)
#else
#define BIPER_API __declspec(dllimport)
#endif
#elif defined(__GNUC__)
#define BIPER_API __attribute__((visibility("default")))
#else
#define BIPER_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* The most axes of an array. */
#define BIPER_MAX_RANK 8

/* What came of a call. */
typedef enum biper_status {
  BIPER_OK = 0,
  BIPER_BAD_ARGUMENT = 1,  /* an argument is NULL or out of range, or the processor lacks the instruction set */
  BIPER_UNREADABLE = 2,    /* the file does not exist, cannot be read, or is no regular file */
  BIPER_BAD_FORMAT = 3,    /* the model is truncated, corrupt, or describes a program that cannot be run */
  BIPER_OVER_LIMIT = 4,    /* the model needs more than max_memory or max_work */
  BIPER_BAD_DATA = 5,      /* an input is not finite, or reaches a layer that cannot compute it */
  BIPER_OUT_OF_MEMORY = 6, /* the system has no more memory */
  BIPER_NO_THREADS = 7,    /* the system refuses to start the threads of the model */
  BIPER_INTERNAL = 8       /* a fault of the library; please report it */
} biper_status;

/* A loaded model. */
typedef struct biper_model biper_model;

/* How a model is loaded. biper_options_init() sets the values that most programs want. */
typedef struct biper_options {
  size_t size;                 /* sizeof(biper_options), so that later versions may have more fields */
  int threads;                 /* threads that share the work of one call, with the calling one: 1 to 1024; 1 */
  int verify;                  /* compare the checksum of the file; 1 */
  uint64_t max_memory;         /* bytes that file, weights and the values of one image may take; 2^30 */
  uint64_t max_work;           /* elementary operations for one image, about multiply-accumulates; 2^38 */
  const char* instruction_set; /* "scalar", "avx2", "avx512", "neon" or "dotprod"; NULL: the fastest one */
} biper_options;

/* An input or a result of a model for one image. The shape of an image is (channels, height, width). The name is owned
 * by the model. */
typedef struct biper_array {
  const char* name;
  int rank;
  int64_t sizes[BIPER_MAX_RANK];
  int64_t elements; /* the product of the sizes */
} biper_array;

/* How a picture becomes the pixels that biper_run_pixels() takes: it is turned as its EXIF tag says, put on the
 * background, resized, and its centre is cut out. The library does not do this. The texts are owned by the library. */
typedef struct biper_preprocessing {
  int height, width;         /* of the result */
  int resize_height;         /* of the whole picture, before its centre is cut out */
  int resize_width;          /* 0: resize_height is the length of the shorter side */
  const char* interpolation; /* "nearest", "bilinear", "bicubic" or "lanczos"; all but the first are antialiased */
  const char* channels;      /* the order of the channels of a pixel: "RGB", "BGR" or "L" (grey) */
  uint8_t background[3];     /* the colour behind transparent parts: red, green, blue */
  int exif_orientation;      /* whether the picture is turned as its EXIF tag says */
  double white;              /* the value of white in pictures of more than 8 bits; 0: it follows from their type */
  int draft_margin;          /* see Preprocessing in the documentation of Python; 0: never decode at a smaller size */
} biper_preprocessing;

/* The version of the library, such as "0.1.0". */
BIPER_API const char* biper_version(void);

/* What was wrong with the last call that failed in the calling thread; valid until its next call that fails. */
BIPER_API const char* biper_error_text(void);

/* Fills in the default values. */
BIPER_API void biper_options_init(biper_options* options);

/* Load a model from a file, or from `size` bytes of memory, which are not needed afterwards. `options` may be NULL for
 * the default values. On failure *model is NULL. */
BIPER_API biper_status biper_load(const char* path, const biper_options* options, biper_model** model);
BIPER_API biper_status biper_load_memory(const void* content, size_t size, const biper_options* options,
                                         biper_model** model);

/* Frees a model, which no thread may be using any more. NULL is allowed. */
BIPER_API void biper_free(biper_model* model);

/* The inputs; number 0 is the image (a signal is an image of height 1). */
BIPER_API size_t biper_input_count(const biper_model* model);
BIPER_API biper_status biper_input(const biper_model* model, size_t index, biper_array* input);

/* The results. */
BIPER_API size_t biper_output_count(const biper_model* model);
BIPER_API biper_status biper_output(const biper_model* model, size_t index, biper_array* output);

/* The names of the outputs of the first result (of a map: of its channels); their numbers as text if the file has no
 * names, "positive" for a single output. NULL for a number that is too large. */
BIPER_API size_t biper_class_count(const biper_model* model);
BIPER_API const char* biper_class_name(const biper_model* model, size_t index);

/* How pictures are prepared. BIPER_BAD_DATA: the model has neither 1 nor 3 channels, so it takes no pictures. */
BIPER_API biper_status biper_preprocessing_of(const biper_model* model, biper_preprocessing* preprocessing);

/* The mean and the standard deviation of a channel of pixels from 0 to 1, by which biper_run_pixels() normalizes. */
BIPER_API biper_status biper_normalization(const biper_model* model, size_t channel, double* mean, double* std);

/* The instruction set that runs, and the bytes that the values of one image take. */
BIPER_API const char* biper_instruction_set(const biper_model* model);
BIPER_API int64_t biper_arena_bytes(const biper_model* model);

/* Runs `count` images. inputs[i] has count * elements floats of input number i, image after image; inputs[0] are
 * normalized images in the order (count, channels, height, width). outputs[i] is where count * elements floats of
 * result number i are written. Many threads may run one model at the same time. */
BIPER_API biper_status biper_run(biper_model* model, const float* const* inputs, int64_t count, float* const* outputs);

/* The same for pixels in the order (count, height, width, channels), which are normalized as the model says. others[i]
 * is input number i + 1; NULL if the model takes images alone. */
BIPER_API biper_status biper_run_pixels(biper_model* model, const uint8_t* pixels, const float* const* others,
                                        int64_t count, float* const* outputs);

#ifdef __cplusplus
}
#endif

#endif
