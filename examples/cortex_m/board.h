// clang-format Language: C
/* What the example needs of a board: printing text, ending the program, and counting instructions. */
#include <stdint.h>

void board_write(const char *text);
void board_exit(int status);

/* The number of instructions since board_count_start. */
void board_count_start(void);
uint32_t board_count(void);

/* Of report.c, the same for all boards. With BOARD_PROFILE, each call of board_profile adds the instructions since the
   one before to those of a name; board_profile_print prints them. */
void board_write_number(uint32_t number);
void board_profile_start(void);
void board_profile(const char *name);
void board_profile_print(void);
