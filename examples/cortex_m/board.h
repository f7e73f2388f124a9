// clang-format Language: C
/* What the example needs of a board: printing text, ending the program, and counting instructions. */
#include <stdint.h>

void board_write(const char *text);
void board_exit(int status);

/* The number of instructions since board_count_start. The clock of the emulator advances by one nanosecond in each. */
void board_count_start(void);
uint32_t board_count(void);

/* Prints the number of instructions since the last such report, with a name. */
void board_report(const char *name);
void board_write_number(uint32_t number);
