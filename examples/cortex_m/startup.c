/* Start-up code: the vector table, the initialization of static memory, and the handler of faults. */
#include <stdint.h>

#include "board.h"

extern uint32_t data_in_flash[], data_begin[], data_end[], bss_begin[], bss_end[], stack_top[];
int main(void);
void reset(void);

static void fault(void)
{
    board_write("a fault\n");
    board_exit(1);
}

void reset(void)
{
    const uint32_t *from = data_in_flash;
    uint32_t *to;
#if defined(__ARM_FEATURE_MVE) || defined(__ARM_FP)
    *(volatile uint32_t *)0xe000ed88u |= 0xfu << 20; /* CPACR: allow vector and floating-point instructions */
#endif
    for (to = data_begin; to < data_end; ++to) *to = *from++;
    for (to = bss_begin; to < bss_end; ++to) *to = 0;
    board_exit(main());
}

typedef void (*handler_t)(void);

/* The stack, then reset, NMI, hard fault and the three faults that become hard faults until they are enabled. */
__attribute__((section(".vectors"), used)) static const struct {
    uint32_t *stack;
    handler_t handlers[6];
} vectors = {stack_top, {reset, fault, fault, fault, fault, fault}};
