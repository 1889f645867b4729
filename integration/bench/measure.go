package main

import (
	"context"
	"fmt"
	"slices"
)

// series are the speeds that were measured at one thing, a value for each turn.
type series []float64

func (s series) median() float64 {
	if len(s) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(s))
	return sorted[len(sorted)/2]
}

// over returns the median of the ratios of each turn: what slows the machine
// for a while slows both.
func (s series) over(other series) float64 {
	if len(s) != len(other) {
		return 0
	}
	ratios := make(series, len(s))
	for i := range s {
		ratios[i] = s[i] / other[i]
	}
	return ratios.median()
}

// measured are the speeds of one work, by the name of what it was done on.
type measured map[string]series

func (m measured) over(a, b string) float64 { return m[a].over(m[b]) }

// contender is what a work is done on, and how one measurement of it is made.
type contender struct {
	name    string
	measure func(context.Context, work) (float64, error)
	// concerns, unless nil, tells which works it is measured at.
	concerns func(work) bool
	// others' programs may be unable to do a work; it is left out for them.
	others bool
}

// compare measures a work on each contender in turn, back and forth, so that
// nobody always comes after the same one.
func compare(ctx context.Context, w work, all []contender, turns int) (measured, error) {
	m := measured{}
	for n := range turns {
		order := slices.Clone(all)
		if n%2 == 1 {
			slices.Reverse(order)
		}
		for _, c := range order {
			if c.concerns != nil && !c.concerns(w) {
				continue
			}
			speed, err := c.measure(ctx, w)
			if err != nil && c.others && ctx.Err() == nil {
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("%s on %s: %w", w.name, c.name, err)
			}
			m[c.name] = append(m[c.name], speed)
		}
	}
	return m, nil
}
