package integration

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	// bearable is how many filters may die one after the other, none of which
	// served for longer than recovery, before the keeper gives up: one less than
	// its patience, and somewhat longer.
	bearable = 5
	recovery = 1200 * time.Millisecond
)

// killer kills the filters of a site that is kept, and knows for how long probes
// on its mount had to wait for the next one.
type killer struct {
	site   *site
	rng    *rand.Rand
	probes []*probe
	kills  int
	served time.Time // the present filter was seen to serve
	hasty  int       // deaths in a row of filters that had not served for long
	// pauses are the probes' longest ones: when one filter died, and when the
	// next one died at once, too.
	pauses, doubled []time.Duration
}

// newKiller starts probes on a mount, one for each set of flags.
func newKiller(t *testing.T, rng *rand.Rand, s *site, flags ...int) *killer {
	t.Helper()
	k := &killer{site: s, rng: rng, served: time.Now()}
	for i, flags := range flags {
		k.probes = append(k.probes, startProbe(t, s.disk(fmt.Sprintf("probe-%d.img", i)), flags))
	}
	t.Cleanup(func() { s.endHanging(t) }) // before the probes are waited for
	return k
}

// endHanging ends the mount of a test that has failed: otherwise who waits for
// an answer might do so for ever.
func (s *site) endHanging(t *testing.T) {
	if t.Failed() && s.filter.running() {
		s.filter.kill(t)
		s.unmountDead(t)
	}
}

// kill has a filter die, and perhaps the next one while it takes over, and
// returns when another one serves.
func (k *killer) kill(t *testing.T, twice bool) {
	t.Helper()
	deaths := 1
	if twice {
		deaths = 2
	}
	if k.hasty+deaths > bearable {
		eventually(t, "the keeper has its patience back", func() bool { return time.Since(k.served) > recovery })
	}
	if time.Since(k.served) > recovery {
		k.hasty = 0
	}
	for _, p := range k.probes {
		p.mark()
	}
	// Mostly when a probe waits for an answer: the filter has to answer it twice.
	aim := func() { k.probes[k.rng.IntN(len(k.probes))].await(time.Duration(k.rng.IntN(500)) * time.Microsecond) }
	if k.rng.IntN(3) == 0 {
		aim = func() {}
	}
	for range deaths {
		killProcess(t, k.site.filter.serving(t), aim)
		aim = func() {}
		k.hasty++
		k.kills++
	}
	killed, pause := time.Now(), time.Duration(0)
	for _, p := range k.probes {
		eventually(t, "another filter serves", func() bool {
			slowest, known := p.since(t, killed)
			pause = max(pause, slowest)
			return known
		})
	}
	k.served = time.Now()
	if twice {
		k.doubled = append(k.doubled, pause)
	} else {
		k.pauses = append(k.pauses, pause)
	}
}

// end ends the probes and tells of the pauses. It fails the test if filters died that nobody had
// killed: they would go unseen.
func (k *killer) end(t *testing.T) {
	t.Helper()
	for _, p := range k.probes {
		p.stop()
	}
	t.Logf("%d kills; the longest pause of a write after one: %v; after two: %v", k.kills, quantiles(k.pauses), quantiles(k.doubled))
	died := strings.Count(strings.Join(k.site.filter.lines(t), "\n"), "the filter died")
	if died != k.kills {
		t.Errorf("%d filters were killed, but %d died", k.kills, died)
	}
}

type quantiles []time.Duration

func (q quantiles) String() string {
	if len(q) == 0 {
		return "none"
	}
	sorted := slices.Sorted(slices.Values(q))
	at := func(share float64) time.Duration {
		return sorted[min(int(share*float64(len(sorted))), len(sorted)-1)].Round(100 * time.Microsecond)
	}
	return fmt.Sprintf("median %v, p99 %v, at most %v (of %d)", at(0.5), at(0.99), at(1), len(sorted))
}
