/* The functions of a submitter: a packed network in integers alone, on the emulated boards MPS2 of Arm. For another
   board, change the addresses of its serial port and timer. */
#include "submitter.h"

#include <stdarg.h>

#include "model.h"

/* A serial port: data, state (1: cannot be written, 2: can be read), control, interrupts, divider of the clock. */
static volatile uint32_t *const serial = (volatile uint32_t *)0x40004000u;
/* A timer that counts down at 25 MHz: control, value, reload. */
static volatile uint32_t *const timer = (volatile uint32_t *)0x40000000u;
enum { TICKS_A_MICROSECOND = 25 };

static uint8_t input[MAX_DB_INPUT_SIZE];
#ifndef OUTPUT
#define OUTPUT int16_t /* int32_t for a network that was exported with --value-bits 32 */
#endif
static OUTPUT outputs[MODEL_OUTPUTS];

static void put(char c)
{
    while (serial[1] & 1u) {
    }
    serial[0] = (uint8_t)c;
}

char th_getchar(void)
{
    while (!(serial[1] & 2u)) {
    }
    return (char)(uint8_t)serial[0];
}

static void put_number(uint32_t number, uint32_t base, int least)
{
    char digits[12];
    int count = 0;
    do {
        const uint32_t digit = number % base;
        digits[count++] = (char)(digit < 10 ? '0' + digit : 'a' + (digit - 10));
        number /= base;
    } while (number || count < least);
    while (count) put(digits[--count]);
}

void th_printf(const char *format, ...)
{
    va_list given;
    va_start(given, format);
    for (; *format; ++format) {
        int least = 1;
        if (*format != '%') {
            put(*format);
            continue;
        }
        ++format;
        if (*format == '0') {
            least = format[1] - '0';
            format += 2;
        }
        if (*format == 's') {
            const char *text = va_arg(given, const char *);
            while (*text) put(*text++);
        } else if (*format == 'd') {
            const int number = va_arg(given, int);
            if (number < 0) put('-');
            put_number(number < 0 ? 0u - (uint32_t)number : (uint32_t)number, 10, least);
        } else if (*format == 'l') {
            ++format; /* %lu */
            put_number((uint32_t)va_arg(given, unsigned long), 10, least);
        } else {
            put_number(va_arg(given, unsigned), *format == 'x' ? 16 : 10, least);
        }
    }
    va_end(given);
}

void th_serialport_initialize(void)
{
    serial[4] = 16;
    serial[2] = 3;
}

void th_timestamp_initialize(void)
{
    timer[2] = timer[1] = 0xffffffffu;
    timer[0] = 1;
    th_printf("m-timestamp-mode-performance\r\n");
}

void th_timestamp(void)
{
    th_printf("m-lap-us-%lu\r\n", (unsigned long)((0xffffffffu - timer[1]) / TICKS_A_MICROSECOND));
}

void th_final_initialize(void) {}
void th_pre(void) {}
void th_post(void) {}

void th_load_tensor(void) { ee_get_buffer(input, sizeof input); }

void th_infer(void) { model_run(input, outputs); }

/* Outputs are real numbers times a power of 2: three decimals of each. */
void th_results(void)
{
    int i;
    th_printf("m-results-[");
    for (i = 0; i < MODEL_OUTPUTS; ++i) {
        const int32_t size = outputs[i] < 0 ? -outputs[i] : outputs[i];
        const uint32_t thousandths = (uint32_t)((uint64_t)size * 1000 >> MODEL_OUTPUT_EXPONENT);
        th_printf(i ? ",%s" : "%s", outputs[i] < 0 ? "-" : "");
        th_printf("%d.", (int)(thousandths / 1000));
        put_number(thousandths % 1000, 10, 3);
    }
    th_printf("]\r\n");
}
