/* Start-up code: the stack, the initialization of static memory, and the handler of faults. */
#include <stdint.h>

#include "board.h"

extern uint32_t data_in_flash[], data_begin[], data_end[], bss_begin[], bss_end[];
int main(void);
void reset(void);
void begin(void);

__attribute__((aligned(4), used)) static void fault(void)
{
    board_write("a fault\n");
    board_exit(1);
}

__attribute__((used)) void begin(void)
{
    const uint32_t *from = data_in_flash;
    uint32_t *to;
    __asm__ volatile("csrw mtvec, %0" : : "r"(fault));
    for (to = data_begin; to < data_end; ++to) *to = *from++;
    for (to = bss_begin; to < bss_end; ++to) *to = 0;
    board_exit(main());
}

__attribute__((naked, section(".vectors"), used)) void reset(void) { __asm__ volatile("la sp, stack_top\n j begin"); }
