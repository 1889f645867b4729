package main

import (
	"fmt"
	"strings"
)

// column is one of a table: a speed, or a ratio of two.
type column struct{ of, over string }

func (c column) title() string {
	if c.over == "" {
		return c.of
	}
	return c.of + " / " + c.over
}

func (c column) cell(m measured) string {
	switch {
	case len(m[c.of]) == 0 || c.over != "" && len(m[c.over]) == 0:
		return "–"
	case c.over != "":
		return fmt.Sprintf("**%.2f**", m.over(c.of, c.over))
	default:
		return fmt.Sprintf("%.0f", m[c.of].median()/1e6)
	}
}

// head prints the head of a table in Markdown.
func head(columns []column) {
	fmt.Print("\n| work |")
	for _, c := range columns {
		fmt.Printf(" %s |", c.title())
	}
	fmt.Printf("\n| --- |%s\n", strings.Repeat(" ---: |", len(columns)))
}

func line(w work, m measured, columns []column) {
	fmt.Printf("| %s |", w.name)
	for _, c := range columns {
		fmt.Printf(" %s |", c.cell(m))
	}
	fmt.Println()
}

// goal is a ratio that some works should reach.
type goal struct {
	what     string
	ratio    column
	atLeast  float64
	concerns func(work) bool
}

// result is what was measured at a work.
type result struct {
	work work
	measured
}

// judge notes how a goal was met: by the work that came closest to missing it.
func (b *bench) judge(g goal, results []result) {
	lowest, where := 0.0, ""
	for _, r := range results {
		if !g.concerns(r.work) || len(r.measured[g.ratio.of]) == 0 || len(r.measured[g.ratio.over]) == 0 {
			continue
		}
		if ratio := r.over(g.ratio.of, g.ratio.over); where == "" || ratio < lowest {
			lowest, where = ratio, r.work.name
		}
	}
	if where == "" {
		return // what it is about was not asked for
	}
	met := "met"
	if lowest < g.atLeast {
		met = "MISSED"
	}
	b.verdicts = append(b.verdicts, fmt.Sprintf("- %s: %s: %s at least %.2f; lowest %.3f (%s)",
		met, g.what, g.ratio.title(), g.atLeast, lowest, where))
}

func everyWork(work) bool { return true }
