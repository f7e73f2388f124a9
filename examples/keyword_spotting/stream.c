/* Listens to the recording in recording.h, which run.py writes: the features of every frame, the network five times in
   a second, and what both take. */
#include "board.h"
#include "mel.h"
#include "model.h"
#include "recording.h"
#include "tables.h"

static int16_t window[FRAMES * BANDS]; /* [frame][band], the newest frame last */

int main(void)
{
    uint32_t features_took = 0, network_took = 0, runs = 0, hash = 2166136261u;
    int frame, i;
    for (frame = 0; frame < RECORDED_FRAMES; ++frame) {
        int16_t features[BANDS];
        board_count_start();
        frame_features(recording + HOP * frame, frame == 0, features);
        features_took += board_count() / RECORDED_FRAMES;
        for (i = 0; i < (FRAMES - 1) * BANDS; ++i) window[i] = window[i + BANDS];
        for (i = 0; i < BANDS; ++i) window[(FRAMES - 1) * BANDS + i] = (int16_t)((features[i] - OFFSET) * INPUT_FACTOR);
        if (frame >= FRAMES - 1 && (frame - (FRAMES - 1)) % RUN_EVERY == 0) {
            int16_t outputs[MODEL_OUTPUTS];
            uint32_t best = 0;
            board_count_start();
            model_run(window, outputs);
            network_took += board_count() / NETWORK_RUNS;
            for (i = 0; i < MODEL_OUTPUTS; ++i) {
                if (outputs[i] > outputs[best]) best = (uint32_t)i;
                hash = (hash ^ (uint16_t)outputs[i]) * 16777619u;
            }
            if (runs++) board_write(" ");
            board_write_number(best);
        }
    }
    board_write("\nhash ");
    board_write_number(hash);
    board_write("\nfeatures ");
    board_write_number(features_took);
    board_write("\nnetwork ");
    board_write_number(network_took);
    board_write("\n");
    return runs == NETWORK_RUNS ? 0 : 1;
}
