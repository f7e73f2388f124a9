/* @section nest */
/* Nested loops over the axes of values. `axes` has a row for each loop, the outermost first: its count, and for each
   operand by how many elements one step moves. */
typedef struct {
    const int32_t *axes;
    uint8_t loops, operands;
} nest_t;

/* Where nested loops are: the step of each loop, and the offset of each operand. */
typedef struct {
    int32_t step[8], at[4];
} place_t;

/* The barriers keep compilers from calling memset, which a program without a library lacks. */
static void to_start(place_t *place)
{
    int32_t i;
    for (i = 0; i < 8; ++i) {
        place->step[i] = 0;
        FENCE();
    }
    for (i = 0; i < 4; ++i) {
        place->at[i] = 0;
        FENCE();
    }
}

/* Makes one step; 0 after the last, when the place is the first again. */
static int next_place(const nest_t *nest, place_t *place)
{
    const int32_t *axis = nest->axes + nest->loops * (nest->operands + 1);
    int32_t loop, i;
    for (loop = nest->loops - 1; loop >= 0; --loop) {
        axis -= nest->operands + 1;
        for (i = 0; i < nest->operands; ++i) place->at[i] += axis[i + 1];
        if (++place->step[loop] < axis[0]) return 1;
        place->step[loop] = 0;
        for (i = 0; i < nest->operands; ++i) place->at[i] -= axis[0] * axis[i + 1];
    }
    return 0;
}

/* @section fill */
typedef struct {
    real_t *out;
    int32_t size;
    real_t value;
} fill_t;

static void fill(const fill_t *o)
{
    int32_t i;
    for (i = 0; i < o->size; ++i) o->out[i] = o->value;
}

/* @section copy */
typedef struct {
    const float *in;
    float *out;
    int32_t size, in_step, out_step; /* of the innermost loop */
    nest_t nest;                     /* of in and out */
} copy_t;

static void copy(const copy_t *o)
{
    place_t place;
    int32_t i;
    to_start(&place);
    do {
        const float *x = o->in + place.at[0];
        float *y = o->out + place.at[1];
        for (i = 0; i < o->size; ++i, x += o->in_step, y += o->out_step) *y = *x;
    } while (next_place(&o->nest, &place));
}

/* @section unary */
typedef struct {
    const float *in;
    float *out;
    float (*function)(float x, const float *p);
    float p[3];
    int32_t size, in_step, out_step; /* of the innermost loop */
    nest_t nest;                     /* of in and out */
} unary_t;

static void unary(const unary_t *o)
{
    place_t place;
    int32_t i;
    to_start(&place);
    do {
        const float *x = o->in + place.at[0];
        float *y = o->out + place.at[1];
        for (i = 0; i < o->size; ++i, x += o->in_step, y += o->out_step) *y = o->function(*x, o->p);
    } while (next_place(&o->nest, &place));
}

/* @section binary */
typedef struct {
    const float *left, *right;
    float *out;
    float (*function)(float x, float y);
    int32_t size, left_step, right_step, out_step; /* of the innermost loop */
    nest_t nest;                                   /* of left, right and out */
} binary_t;

static void binary(const binary_t *o)
{
    place_t place;
    int32_t i;
    to_start(&place);
    do {
        const float *x = o->left + place.at[0], *y = o->right + place.at[1];
        float *z = o->out + place.at[2];
        for (i = 0; i < o->size; ++i, x += o->left_step, y += o->right_step, z += o->out_step) *z = o->function(*x, *y);
    } while (next_place(&o->nest, &place));
}

/* @section choose */
typedef struct {
    const float *condition, *yes, *no;
    float *out;
    nest_t nest; /* of condition, yes, no and out */
} choose_t;

static void choose(const choose_t *o)
{
    place_t place;
    to_start(&place);
    do {
        const int chosen = o->condition[place.at[0]] < 0 || o->condition[place.at[0]] > 0;
        o->out[place.at[3]] = chosen ? o->yes[place.at[1]] : o->no[place.at[2]];
    } while (next_place(&o->nest, &place));
}

/* @section reduce */
typedef struct {
    const float *in;
    float *out;
    float (*function)(float x, float y);
    float divisor; /* of a mean; else 1 */
    nest_t nest;   /* of in and out */
    nest_t within; /* of in: the elements that are reduced */
} reduce_t;

static void reduce(const reduce_t *o)
{
    place_t place, within;
    to_start(&place);
    to_start(&within);
    do {
        const float *x = o->in + place.at[0];
        float y = x[0];
        while (next_place(&o->within, &within)) y = o->function(y, x[within.at[0]]);
        o->out[place.at[1]] = y / o->divisor;
    } while (next_place(&o->nest, &place));
}

/* @section softmax */
typedef struct {
    const float *in;
    float *out;
    uint8_t logarithm;
    int32_t size, in_step, out_step; /* of the axis */
    nest_t nest;                     /* of in and out: the other axes */
} softmax_t;

static void softmax(const softmax_t *o)
{
    place_t place;
    int32_t i;
    to_start(&place);
    do {
        const float *x = o->in + place.at[0];
        float *y = o->out + place.at[1], largest = x[0], sum = 0;
        for (i = 1; i < o->size; ++i)
            if (x[i * o->in_step] > largest) largest = x[i * o->in_step];
        for (i = 0; i < o->size; ++i) {
            const float shifted = x[i * o->in_step] - largest, weight = expf(shifted);
            y[i * o->out_step] = o->logarithm ? shifted : weight;
            sum += weight;
        }
        for (i = 0; i < o->size; ++i)
            if (o->logarithm) y[i * o->out_step] -= logf(sum);
            else y[i * o->out_step] /= sum;
    } while (next_place(&o->nest, &place));
}

/* @section normalize */
typedef struct {
    const float *in;
    float *out;
    float count, epsilon; /* count: of the elements that are normalized together */
    uint8_t center;
    nest_t nest;   /* of in and out */
    nest_t within; /* of in and out: the elements that are normalized together */
} normalize_t;

static void normalize(const normalize_t *o)
{
    place_t place, within;
    to_start(&place);
    to_start(&within);
    do {
        const float *x = o->in + place.at[0];
        float *y = o->out + place.at[1], mean = 0, square = 0;
        if (o->center) {
            do mean += x[within.at[0]];
            while (next_place(&o->within, &within));
            mean /= o->count;
        }
        do square += (x[within.at[0]] - mean) * (x[within.at[0]] - mean);
        while (next_place(&o->within, &within));
        square = sqrtf(square / o->count + o->epsilon);
        do y[within.at[1]] = (x[within.at[0]] - mean) / square;
        while (next_place(&o->within, &within));
    } while (next_place(&o->nest, &place));
}

/* @section matmul */
typedef struct {
    const float *left, *right;
    float *out;
    int32_t rows, columns, inner;
    int32_t left_row, left_inner, right_inner, right_column, out_row, out_column; /* steps along these axes */
    nest_t nest;                                                                  /* of left, right and out */
} matmul_t;

static void matmul(const matmul_t *o)
{
    place_t place;
    int32_t row, column, i;
    to_start(&place);
    do {
        for (row = 0; row < o->rows; ++row)
            for (column = 0; column < o->columns; ++column) {
                const float *x = o->left + place.at[0] + row * o->left_row;
                const float *y = o->right + place.at[1] + column * o->right_column;
                float sum = 0;
                for (i = 0; i < o->inner; ++i) sum += x[i * o->left_inner] * y[i * o->right_inner];
                o->out[place.at[2] + row * o->out_row + column * o->out_column] = sum;
            }
    } while (next_place(&o->nest, &place));
}

/* @section sample */
typedef struct {
    const float *in;
    float *out;
    const int32_t *index; /* [tap][element of the result] */
    const float *weight;  /* the same; null where all are 1 */
    uint8_t maximum;
    int32_t taps, size, in_step, out_step; /* the last three: of the axis */
    nest_t nest;                           /* of in and out: the other axes */
} sample_t;

static void sample(const sample_t *o)
{
    place_t place;
    int32_t i, tap;
    to_start(&place);
    do {
        const float *x = o->in + place.at[0];
        float *y = o->out + place.at[1];
        for (i = 0; i < o->size; ++i) {
            float result = 0;
            for (tap = 0; tap < o->taps; ++tap) {
                const int32_t at = tap * o->size + i;
                const float value = o->weight ? x[o->index[at] * o->in_step] * o->weight[at] : x[o->index[at] * o->in_step];
                if (tap == 0 || (o->maximum && value > result)) result = value;
                else if (!o->maximum) result += value;
            }
            y[i * o->out_step] = result;
        }
    } while (next_place(&o->nest, &place));
}
