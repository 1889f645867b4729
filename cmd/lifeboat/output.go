package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"
)

// show prints v as JSON if the command was asked to, else by the function.
func show(c *cli.Context, v any, text func()) error {
	if !c.Bool("json") {
		text()
		return nil
	}
	e := json.NewEncoder(c.App.Writer)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("print JSON: %w", err)
	}
	return nil
}

// table prints rows in columns; the first row is the heading.
func table(w io.Writer, rows [][]string) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(tw, strings.Join(row, "\t"))
	}
	tw.Flush() //nolint:errcheck // a broken pipe is nobody's concern here
}

func size(bytes int64) string { return humanize.IBytes(uint64(max(bytes, 0))) }

// ago tells a time span in a few characters.
func ago(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	if d < time.Minute {
		return fmt.Sprintf("%.1fs", d.Seconds())
	}
	return d.Round(time.Second).String()
}

// local writes an instant as people read it.
func local(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05.000") }
