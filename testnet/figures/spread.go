package main

import (
	"math"
	"slices"
)

// percentile returns the smallest of the values that p percent of them do not exceed (nearest rank): always a value that was
// measured. Of ten values, the 50th is the fifth and the 99th the largest. Of none it is 0.
func percentile(values []float64, p float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	rank := int(math.Ceil(p / 100 * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1]
}

func median(values []float64) float64 { return percentile(values, 50) }

func largest(values []float64) float64 { return percentile(values, 100) }

func mean(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sum := 0.0
	for _, v := range values {
		sum += v
	}
	return sum / float64(len(values))
}
