/* @section lookup_table */
/* A function of one integer: numbers at equal distances of 2^cell, with straight lines between them. */
typedef struct {
    const int16_t *values;
    int32_t first, low, high;
    uint8_t cell;
} lookup_table_t;

static int32_t looked_up(const lookup_table_t *table, int32_t x)
{
    const int32_t place = (x < table->low ? table->low : x > table->high ? table->high : x) - table->first;
    const int16_t *values = table->values + (place >> table->cell);
    const int32_t size = (int32_t)1 << table->cell, rest = place & (size - 1);
    return values[0] + shifted((values[1] - values[0]) * rest + (size >> 1), table->cell);
}

/* @section wide */
static int16_t saturated_wide(int64_t x) { return (int16_t)(x > 32767 ? 32767 : x < -32768 ? -32768 : x); }

/* @section copy */
typedef struct {
    const int16_t *in;
    int16_t *out;
    int8_t up;                       /* to the exponent of out */
    int32_t size, in_step, out_step; /* of the innermost loop */
    nest_t nest;                     /* of in and out */
} copy_t;

static void copy(const copy_t *o)
{
    place_t place;
    int32_t i;
    to_start(&place);
    do {
        const int16_t *x = o->in + place.at[0];
        int16_t *y = o->out + place.at[1];
        for (i = 0; i < o->size; ++i, x += o->in_step, y += o->out_step) *y = (int16_t)moved(*x, o->up);
    } while (next_place(&o->nest, &place));
}

/* @section unary */
typedef struct {
    const int16_t *in;
    int16_t *out;
    lookup_table_t table;
    int32_t size, in_step, out_step; /* of the innermost loop */
    nest_t nest;                     /* of in and out */
} unary_t;

static void unary(const unary_t *o)
{
    place_t place;
    int32_t i;
    to_start(&place);
    do {
        const int16_t *x = o->in + place.at[0];
        int16_t *y = o->out + place.at[1];
        for (i = 0; i < o->size; ++i, x += o->in_step, y += o->out_step) *y = (int16_t)looked_up(&o->table, *x);
    } while (next_place(&o->nest, &place));
}

/* @section binary */
typedef struct {
    const int16_t *left, *right;
    int16_t *out;
    int32_t (*function)(int32_t x, int32_t y);
    int8_t up, right_up, down;                     /* of left and of right, and to the exponent of out */
    int32_t size, left_step, right_step, out_step; /* of the innermost loop */
    nest_t nest;                                   /* of left, right and out */
} binary_t;

static void binary(const binary_t *o)
{
    place_t place;
    int32_t i;
    to_start(&place);
    do {
        const int16_t *x = o->left + place.at[0], *y = o->right + place.at[1];
        int16_t *z = o->out + place.at[2];
        for (i = 0; i < o->size; ++i, x += o->left_step, y += o->right_step, z += o->out_step)
            *z = saturated(moved(o->function(moved(*x, o->up), moved(*y, o->right_up)), o->down));
    } while (next_place(&o->nest, &place));
}

/* @section choose */
typedef struct {
    const int16_t *condition, *yes, *no;
    int16_t *out;
    int8_t yes_up, no_up, down; /* of yes and of no, and to the exponent of out */
    nest_t nest;                /* of condition, yes, no and out */
} choose_t;

static void choose(const choose_t *o)
{
    place_t place;
    to_start(&place);
    do {
        const int32_t y = o->condition[place.at[0]] ? moved(o->yes[place.at[1]], o->yes_up)
                                                    : moved(o->no[place.at[2]], o->no_up);
        o->out[place.at[3]] = saturated(moved(y, o->down));
    } while (next_place(&o->nest, &place));
}

/* @section reduce */
typedef struct {
    const int16_t *in;
    int16_t *out;
    int32_t (*function)(int32_t x, int32_t y);
    int16_t multiplier; /* of a sum or a mean; else 0 */
    int8_t up, down;    /* of the sum, and to the exponent of out */
    nest_t nest;        /* of in and out */
    nest_t within;      /* of in: the elements that are reduced */
} reduce_t;

static void reduce(const reduce_t *o)
{
    place_t place, within;
    to_start(&place);
    to_start(&within);
    do {
        const int16_t *x = o->in + place.at[0];
        int32_t y = x[0];
        while (next_place(&o->within, &within)) y = o->function(y, x[within.at[0]]);
        if (o->multiplier) y = scaled(moved(y, o->up), o->multiplier);
        o->out[place.at[1]] = saturated(moved(y, o->down));
    } while (next_place(&o->nest, &place));
}

/* @section softmax */
typedef struct {
    const int16_t *in;
    int16_t *out;
    lookup_table_t table;            /* of the exponential of a number that is not positive */
    int8_t down;                     /* to the exponent of out */
    int32_t size, in_step, out_step; /* of the axis */
    nest_t nest;                     /* of in and out: the other axes */
} softmax_t;

static void softmax(const softmax_t *o)
{
    place_t place;
    int32_t i;
    to_start(&place);
    do {
        const int16_t *x = o->in + place.at[0];
        int16_t *y = o->out + place.at[1];
        int32_t largest = x[0], sum = 0;
        for (i = 1; i < o->size; ++i)
            if (x[i * o->in_step] > largest) largest = x[i * o->in_step];
        for (i = 0; i < o->size; ++i) {
            const int32_t weight = looked_up(&o->table, x[i * o->in_step] - largest);
            y[i * o->out_step] = (int16_t)weight;
            sum += weight;
        }
        for (i = 0; i < o->size; ++i)
            y[i * o->out_step] = saturated(moved((y[i * o->out_step] * 16384 + (sum >> 1)) / sum, o->down));
    } while (next_place(&o->nest, &place));
}

/* @section normalize */
typedef struct {
    const int16_t *in;
    int16_t *out;
    int64_t epsilon; /* times the square of the count */
    int32_t count;   /* of the elements that are normalized together */
    uint8_t center;
    int8_t up, exponent; /* of in; the exponent of out */
    nest_t nest;         /* of in and out */
    nest_t within;       /* of in and out: the elements that are normalized together */
} normalize_t;

static uint32_t root_of(uint64_t x)
{
    uint64_t root = 0, bit;
    for (bit = (uint64_t)1 << 62; bit; bit >>= 2) {
        if (x >= root + bit) {
            x -= root + bit;
            root = (root >> 1) + bit;
        } else {
            root >>= 1;
        }
    }
    return (uint32_t)root;
}

static void normalize(const normalize_t *o)
{
    place_t place, within;
    to_start(&place);
    to_start(&within);
    do {
        const int16_t *x = o->in + place.at[0];
        int16_t *y = o->out + place.at[1];
        int64_t square = 0;
        int32_t total = 0, more = o->exponent;
        uint32_t root;
        do {
            const int32_t value = moved(x[within.at[0]], o->up);
            if (o->center) total += value;
            square += (int64_t)value * value;
        } while (next_place(&o->within, &within));
        square = o->count * square - (int64_t)total * total + o->epsilon;
        for (; square > 0 && square < (int64_t)1 << 60; square *= 4) ++more;
        root = square > 0 ? root_of((uint64_t)square) : 1;
        do {
            const int64_t away = (int64_t)o->count * moved(x[within.at[0]], o->up) - total;
            y[within.at[1]] = saturated_wide(away * ((int64_t)1 << more) / root);
        } while (next_place(&o->within, &within));
    } while (next_place(&o->nest, &place));
}

/* @section matmul */
typedef struct {
    const int16_t *left, *right;
    int16_t *out;
    int8_t down; /* to the exponent of out */
    int32_t rows, columns, inner;
    int32_t left_row, left_inner, right_inner, right_column, out_row, out_column; /* steps along these axes */
    nest_t nest;                                                                  /* of left, right and out */
} matmul_t;

/* floor(x / 2^n) in 64 bits, see shifted. */
static int64_t shifted_wide(int64_t x, int32_t n) { return -1 >> 1 == -1 || x >= 0 ? x >> n : ~(~x >> n); }

static void matmul(const matmul_t *o)
{
    const int64_t half = o->down < 0 ? (int64_t)1 << (-o->down - 1) : 0;
    place_t place;
    int32_t row, column, i;
    to_start(&place);
    do {
        for (row = 0; row < o->rows; ++row)
            for (column = 0; column < o->columns; ++column) {
                const int16_t *x = o->left + place.at[0] + row * o->left_row;
                const int16_t *y = o->right + place.at[1] + column * o->right_column;
                int64_t sum = half;
                for (i = 0; i < o->inner; ++i) sum += (int32_t)x[i * o->left_inner] * y[i * o->right_inner];
                o->out[place.at[2] + row * o->out_row + column * o->out_column] = saturated_wide(shifted_wide(sum, -o->down));
            }
    } while (next_place(&o->nest, &place));
}

/* @section sample */
typedef struct {
    const int16_t *in;
    int16_t *out;
    const int32_t *index;  /* [tap][element of the result] */
    const int16_t *weight; /* the same; null where an element, or the largest, is taken as it is */
    int8_t down;           /* of a sum: to the exponent of out */
    int32_t taps, size, in_step, out_step; /* the last three: of the axis */
    nest_t nest;                           /* of in and out: the other axes */
} sample_t;

static void sample(const sample_t *o)
{
    place_t place;
    int32_t i, tap;
    to_start(&place);
    do {
        const int16_t *x = o->in + place.at[0];
        int16_t *y = o->out + place.at[1];
        for (i = 0; i < o->size; ++i) {
            int32_t result = x[o->index[i] * o->in_step];
            if (o->weight) result *= o->weight[i];
            for (tap = 1; tap < o->taps; ++tap) {
                const int32_t at = tap * o->size + i, value = x[o->index[at] * o->in_step];
                if (o->weight) result += value * o->weight[at];
                else if (value > result) result = value;
            }
            y[i * o->out_step] = o->weight ? saturated(moved(result, o->down)) : (int16_t)result;
        }
    } while (next_place(&o->nest, &place));
}
