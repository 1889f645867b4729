package uploader

import (
	"testing"
	"time"
)

func TestNextAttempt(t *testing.T) {
	first := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct{ now, want time.Duration }{
		{0, time.Minute},
		{59 * time.Second, time.Minute},
		{time.Minute, 2 * time.Minute},
		{90 * time.Second, 2 * time.Minute},
		{2 * time.Minute, 4 * time.Minute},
		{7 * time.Minute, 8 * time.Minute}, // an attempt that lasted three minutes
		{8 * time.Minute, 10 * time.Minute},
		{10 * time.Minute, 40 * time.Minute},
		{39 * time.Minute, 40 * time.Minute},
		{40 * time.Minute, 70 * time.Minute},
		{26 * time.Hour, 26*time.Hour + 10*time.Minute},
	} {
		if got := nextAttempt(first, first.Add(c.now)).Sub(first); got != c.want {
			t.Errorf("failed %v after the first: next after %v, want %v", c.now, got, c.want)
		}
	}
}
