package fusefs

import (
	"math/rand/v2"
	"testing"
)

// load answers requests at a rate that depends on how many readers there are.
type load struct {
	rate  func(readers int) float64 // in a tick
	busy  func(readers int) int
	stuck bool
}

var (
	// inMemory is what was measured on two cores: a second reader costs more
	// than it brings.
	inMemory = load{
		rate: func(n int) float64 { return 40 - 10*float64(min(n, 2)-1) },
		busy: func(n int) int { return n },
	}
	// fastDisk answers each request well within a tick, many at a time.
	fastDisk = load{
		rate: func(n int) float64 { return 10 * float64(min(n, 6)) },
		busy: func(n int) int { return n },
	}
	// slowDisk needs several ticks for a request.
	slowDisk = load{
		rate:  func(n int) float64 { return 0.2 * float64(n) },
		busy:  func(n int) int { return n },
		stuck: true,
	}
	// threeGuests have one request each at a time, and the disk is slow.
	threeGuests = load{
		rate:  func(n int) float64 { return 0.2 * float64(min(n, 3)) },
		busy:  func(n int) int { return min(n, 3) },
		stuck: true,
	}
	oneGuest = load{
		rate: func(int) float64 { return 15 },
		busy: func(int) int { return rand.IntN(2) },
	}
)

// run lets a load go on for some ticks and returns what share of its best rate
// was reached.
func (l load) run(p *pace, ticks int) float64 {
	reached, best := 0.0, 0.0
	for n := 1; n <= p.limit; n++ {
		best = max(best, l.rate(n))
	}
	left := 0.0
	for range ticks {
		rate := l.rate(p.wanted) * (0.99 + rand.Float64()/50) // a little noise
		reached += rate
		left += rate
		answered := uint64(left)
		left -= float64(answered)
		p.next(sample{busy: l.busy(p.wanted), stuck: l.stuck && answered == 0, answered: answered})
		if p.wanted < 1 || p.wanted > p.limit {
			panic("the number of readers is out of its bounds")
		}
	}
	return reached / best / float64(ticks)
}

// TestPace: the number of readers becomes what is best, whatever the load was
// before, and trials do not cost much then.
func TestPace(t *testing.T) {
	loads := map[string]load{
		"in memory": inMemory, "fast disk": fastDisk, "slow disk": slowDisk, "three guests": threeGuests, "one guest": oneGuest,
	}
	for before, first := range loads {
		for name, l := range loads {
			p := &pace{limit: 8, wanted: 1}
			first.run(p, 20_000)
			l.run(p, 20_000)
			if share := l.run(p, 50_000); share < 0.95 {
				t.Errorf("%s after %s: %d readers, %.0f %% of what could be reached", name, before, p.wanted, share*100)
			}
		}
	}
}

// TestPaceStuck: nobody waits for a reader that waits for a disk for more than
// two ticks, and readers that are of no use leave.
func TestPaceStuck(t *testing.T) {
	p := &pace{limit: 8, wanted: 1}
	for n := 1; n < 8; n++ {
		if got := p.next(sample{busy: n, stuck: true}); got != n+1 {
			t.Fatalf("with %d readers stuck, %d are wanted", n, got)
		}
	}
	if got := p.next(sample{busy: 8, stuck: true}); got != 8 {
		t.Fatalf("%d readers of 8 are wanted", got)
	}
	for range (calmWindows + 1) * windowTicks {
		p.next(sample{busy: 2, answered: 3})
	}
	if p.wanted != 2 {
		t.Fatalf("%d readers stay for 2 requests at a time", p.wanted)
	}
}

// TestPaceAlone: a limit of one is kept.
func TestPaceAlone(t *testing.T) {
	p := &pace{limit: 1, wanted: 1}
	slowDisk.run(p, 10_000)
	fastDisk.run(p, 10_000)
	if p.wanted != 1 {
		t.Fatalf("%d readers", p.wanted)
	}
}
