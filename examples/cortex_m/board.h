// clang-format Language: C
/* What the example needs of a board: printing text, ending the program, and counting instructions. */
#include <stdint.h>

void board_write(const char *text);
void board_exit(int status);

/* The number of instructions since board_count_start. */
void board_count_start(void);
uint32_t board_count(void);

/* Of report.c, the same for all boards: prints a number; prints the number of instructions since the last such report,
   with a name. */
void board_write_number(uint32_t number);
void board_report(const char *name);
