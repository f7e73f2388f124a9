// clang-format Language: C
/* What the harness of MLPerf Tiny calls, by the names that the benchmark gives: the functions that a submitter writes.
 */
#ifndef SUBMITTER_H
#define SUBMITTER_H
#include <stddef.h>
#include <stdint.h>

#define TH_MODEL_VERSION "ic01" /* image classification, 32 x 32 x 3 bytes in, 10 numbers out */
#define TH_VENDOR_NAME_STRING "biper"

enum { MAX_DB_INPUT_SIZE = 32 * 32 * 3 };

void th_load_tensor(void);               /* take the bytes of the buffer as the input */
void th_infer(void);                     /* compute once */
void th_results(void);                   /* print the outputs: m-results-[...] */
void th_timestamp(void);                 /* print the time: m-lap-us-N */
void th_printf(const char *format, ...); /* %s, %d, %u, %lu, %x, with %02x */
char th_getchar(void);                   /* wait for the next byte of the serial port */
void th_serialport_initialize(void);
void th_timestamp_initialize(void);
void th_final_initialize(void);
void th_pre(void);
void th_post(void);

/* Of the harness: copies the bytes that were loaded last; returns how many. */
size_t ee_get_buffer(uint8_t *buffer, size_t most);

#endif
