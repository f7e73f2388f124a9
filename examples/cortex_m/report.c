/* What every board prints in the same way: numbers, and the instructions of an operation. */
#include "board.h"

void board_write_number(uint32_t number)
{
    char digits[11], *at = digits + 10;
    *at = 0;
    do *--at = (char)('0' + number % 10);
    while (number /= 10);
    board_write(at);
}

void board_report(const char *name)
{
    static uint32_t last;
    const uint32_t now = board_count();
    board_write_number(now > last ? now - last : now);
    board_write(" ");
    board_write(name);
    board_write("\n");
    last = board_count();
}
