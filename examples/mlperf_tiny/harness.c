/* Serves the serial protocol of MLPerf Tiny's performance mode: commands that end in %, and lines that begin with m-
   for a message and e- for an error. The benchmark's own harness can stand in its place: submitter.c has what it calls.
 */
#include "submitter.h"

enum { LONGEST_COMMAND = 80, MOST_WORDS = 4 };

static uint8_t loaded[MAX_DB_INPUT_SIZE];
static size_t expected, got;

size_t ee_get_buffer(uint8_t *buffer, size_t most)
{
    const size_t count = got < most ? got : most;
    size_t i;
    for (i = 0; i < count; ++i) buffer[i] = loaded[i];
    return count;
}

static int same(const char *a, const char *b)
{
    while (*a && *a == *b) ++a, ++b;
    return *a == *b;
}

/* The words of a command, in place; those that it lacks are empty. */
static void split(char *command, char *words[MOST_WORDS])
{
    int word;
    for (word = 0; word < MOST_WORDS; ++word) {
        while (*command == ' ' || *command == '\r' || *command == '\n') ++command;
        words[word] = command;
        while (*command && *command != ' ' && *command != '\r' && *command != '\n') ++command;
        if (*command) *command++ = 0;
    }
}

/* A decimal number, -1 for anything else. */
static long number_of(const char *text)
{
    long number = 0;
    if (!*text) return -1;
    for (; *text >= '0' && *text <= '9' && number < 100000000; ++text) number = 10 * number + (*text - '0');
    return *text ? -1 : number;
}

static int hex_of(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static void load_bytes(const char *digits)
{
    for (; *digits && got < expected; digits += 2) {
        const int high = hex_of(digits[0]), low = digits[1] ? hex_of(digits[1]) : -1;
        if (high < 0 || low < 0) {
            th_printf("e-[Expected pairs of hexadecimal digits, got '%s']\r\n", digits);
            return;
        }
        loaded[got++] = (uint8_t)(high * 16 + low);
    }
    if (expected && got == expected) th_printf("m-load-done\r\n");
}

static void buffer_command(char *words[MOST_WORDS])
{
    size_t i;
    if (same(words[1], "load")) {
        const long count = number_of(words[2]);
        if (count < 1 || count > MAX_DB_INPUT_SIZE) {
            th_printf("e-[Expected 1 to %d bytes, got '%s']\r\n", MAX_DB_INPUT_SIZE, words[2]);
            return;
        }
        expected = (size_t)count;
        got = 0;
        th_printf("m-[Expecting %d bytes]\r\n", (int)count);
    } else if (same(words[1], "print")) {
        for (i = 0; i < got; ++i) {
            if (i % 8 == 0) th_printf("m-buffer-");
            th_printf("%02x%s", loaded[i], i % 8 == 7 || i + 1 == got ? "\r\n" : "-");
        }
    } else if (!*words[1]) {
        th_printf("e-[db needs load, print or hexadecimal digits]\r\n");
    } else {
        load_bytes(words[1]);
    }
}

static void infer_command(char *words[MOST_WORDS])
{
    long count = *words[1] ? number_of(words[1]) : 1, warm_up = *words[2] ? number_of(words[2]) : 10;
    if (count < 1 || warm_up < 0) {
        th_printf("e-[infer needs a number of runs, and may have one of runs before them]\r\n");
        return;
    }
    th_load_tensor();
    th_printf("m-warmup-start-%d\r\n", (int)warm_up);
    while (warm_up-- > 0) th_infer();
    th_printf("m-warmup-done\r\nm-infer-start-%d\r\n", (int)count);
    th_timestamp();
    th_pre();
    while (count-- > 0) th_infer();
    th_post();
    th_timestamp();
    th_printf("m-infer-done\r\n");
    th_results();
}

static void obey(char *command)
{
    char *words[MOST_WORDS];
    split(command, words);
    if (same(words[0], "name"))
        th_printf("m-name-dut-[%s]\r\n", TH_VENDOR_NAME_STRING);
    else if (same(words[0], "profile"))
        th_printf("m-profile-[biper]\r\nm-model-[%s]\r\n", TH_MODEL_VERSION);
    else if (same(words[0], "timestamp"))
        th_timestamp();
    else if (same(words[0], "db"))
        buffer_command(words);
    else if (same(words[0], "infer"))
        infer_command(words);
    else if (same(words[0], "results"))
        th_results();
    else if (same(words[0], "help"))
        th_printf("name, profile, timestamp, db load N, db HEX, db print, infer N W, results\r\n");
    else
        th_printf("e-[Unknown command: %s]\r\n", words[0]);
    th_printf("m-ready\r\n");
}

int main(void)
{
    char command[LONGEST_COMMAND + 1];
    size_t length = 0;
    th_serialport_initialize();
    th_timestamp_initialize();
    th_final_initialize();
    th_printf("m-init-done\r\nm-ready\r\n");
    for (;;) {
        const char c = th_getchar();
        if (c == '%') {
            command[length] = 0;
            obey(command);
            length = 0;
        } else if (length < LONGEST_COMMAND) {
            command[length++] = c;
        }
    }
}
