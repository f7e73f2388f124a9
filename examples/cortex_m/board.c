/* Functions of emulated boards with a Cortex-M (qemu-system-arm -M mps2-an385 and others). Semihosting prints text, and
   the timer SysTick measures time: the clock of the emulator advances by one nanosecond in each instruction. SysTick
   has 25 MHz, and 32 MHz on the board with a Cortex-M55. */
#include "board.h"

enum { SYS_WRITE0 = 0x04, SYS_EXIT = 0x18, APPLICATION_EXIT = 0x20026, RUNTIME_ERROR = 0x20023 };
#if defined(__ARM_FEATURE_MVE)
enum { QUARTERS_A_TICK = 125 }; /* of a nanosecond */
#else
enum { QUARTERS_A_TICK = 160 };
#endif
enum { TICKS = 1 << 24 };

static volatile uint32_t *const systick = (volatile uint32_t *)0xe000e010u; /* control, reload, current */
static uint32_t start;

static void semihosting(uint32_t operation, uint32_t argument)
{
    register uint32_t r0 __asm__("r0") = operation;
    register uint32_t r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
}

void board_write(const char *text) { semihosting(SYS_WRITE0, (uint32_t)(uintptr_t)text); }

void board_exit(int status)
{
    semihosting(SYS_EXIT, status == 0 ? APPLICATION_EXIT : RUNTIME_ERROR);
    for (;;) {
    }
}

void board_count_start(void)
{
    systick[1] = TICKS - 1;
    systick[2] = 0;
    systick[0] = 5; /* on, by the processor's clock, without interrupts */
    start = systick[2];
}

uint32_t board_count(void) { return ((start - systick[2]) & (TICKS - 1)) * QUARTERS_A_TICK / 4; }
