// clang-format Language: C
/* The little that the example needs of a board: text, an end, and a count of instructions. */
#include <stdint.h>

void board_write(const char *text);
void board_exit(int status);

/* Instructions since board_count_start, in an emulator whose clock advances by one nanosecond an instruction. */
void board_count_start(void);
uint32_t board_count(void);
