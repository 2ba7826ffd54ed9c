package main

import (
	"fmt"
	"slices"
)

// figure prints one figure.
func figure(name string, value float64, unit string) {
	fmt.Printf("%s %.4g %s\n", name, value, unit)
}

// median returns the middle of values, which must not be empty.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	if n%2 == 1 {
		return sorted[n/2]
	}
	return (sorted[n/2-1] + sorted[n/2]) / 2
}

// spread prints the median of values under name, and the smallest and the largest beside it.
func spread(name string, values []float64, unit string) {
	figure(name, median(values), unit)
	figure(name+"_min", slices.Min(values), unit)
	figure(name+"_max", slices.Max(values), unit)
}
