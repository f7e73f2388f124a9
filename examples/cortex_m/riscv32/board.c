/* Functions of an emulated 32-bit RISC-V board (qemu-system-riscv32 -M virt). Semihosting prints text, and the counter
   minstret counts instructions. */
#include "board.h"

enum { SYS_WRITE0 = 0x04, SYS_EXIT = 0x18, APPLICATION_EXIT = 0x20026, RUNTIME_ERROR = 0x20023 };

static uint32_t start;

/* Three instructions of 32 bits, in one page, tell the emulator that ebreak is a call of it. */
static void semihosting(uint32_t operation, uint32_t argument)
{
    register uint32_t a0 __asm__("a0") = operation;
    register uint32_t a1 __asm__("a1") = argument;
    __asm__ volatile(".option push\n .option norvc\n .balign 16\n"
                     "slli zero, zero, 0x1f\n ebreak\n srai zero, zero, 7\n .option pop"
                     : "+r"(a0)
                     : "r"(a1)
                     : "memory");
}

void board_write(const char *text) { semihosting(SYS_WRITE0, (uint32_t)(uintptr_t)text); }

void board_exit(int status)
{
    semihosting(SYS_EXIT, status == 0 ? APPLICATION_EXIT : RUNTIME_ERROR);
    for (;;) {
    }
}

static uint32_t instructions(void)
{
    uint32_t count;
    __asm__ volatile("csrr %0, minstret" : "=r"(count) : : "memory");
    return count;
}

void board_count_start(void) { start = instructions(); }

uint32_t board_count(void) { return instructions() - start; }
