/* What every board prints in the same way: numbers, and with BOARD_PROFILE the instructions of each operation. */
#include "board.h"

void board_write_number(uint32_t number)
{
    char digits[11], *at = digits + 10;
    *at = 0;
    do *--at = (char)('0' + number % 10);
    while (number /= 10);
    board_write(at);
}

#ifdef BOARD_PROFILE
enum { NAMES = 256 };
static const char *names[NAMES];
static uint32_t totals[NAMES], last;

void board_profile_start(void)
{
    board_count_start();
    last = board_count();
}

void board_profile(const char *name)
{
    const uint32_t now = board_count();
    uint32_t i = 0;
    while (i < NAMES - 1 && names[i] && names[i] != name) ++i;
    names[i] = name;
    totals[i] += now - last;
    last = board_count();
}

void board_profile_print(void)
{
    uint32_t i;
    for (i = 0; i < NAMES && names[i]; ++i) {
        board_write_number(totals[i]);
        board_write(" ");
        board_write(names[i]);
        board_write("\n");
    }
}
#endif
