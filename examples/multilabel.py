"""Several yes-or-no questions at once: a sigmoid output each, and a decision threshold per question."""

import numpy as np

import xmlp


def main() -> dict[str, float]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2000, 4))
    y = np.stack([x[:, 0] > 0.5, x[:, 1] * x[:, 2] > 0, np.abs(x).max(axis=1) > 1.5], axis=1)  # (N, 3) of 0 and 1

    network = xmlp.mlp([4, 64, 32, 3], activation="gelu", output_activation="sigmoid")
    network.fit(x[:1500], y[:1500], loss="binary_cross_entropy", optimizer=xmlp.optimizers.Adam(3e-3), epochs=60)

    result = {}
    for text, thresholds in (("0.5 each", 0.5), ("0.9 for the first", [0.9, 0.5, 0.5])):
        decided = network.predict_label(x[1500:], thresholds=thresholds)
        precision = xmlp.metrics.precision(y[1500:, 0], decided[:, 0])
        recall = xmlp.metrics.recall(y[1500:, 0], decided[:, 0])
        print(f"thresholds {text}: first question precision {precision:.3f}, recall {recall:.3f}")
        result[text] = float((decided == y[1500:]).mean())
    print(f"share of right answers: {result['0.5 each']:.3f}")
    return result


if __name__ == "__main__":
    main()
