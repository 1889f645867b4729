package fusefs

// pace decides how many readers take requests, from what it is told of them
// every tick (a millisecond) in which there was something to do.
//
// While the data is in memory one reader is best: it finds the next request
// waiting when it has answered one, where several would be woken for one
// request each. But one that waits for a disk keeps all others waiting. So
// another is added at once when all are at work, one of them sleeps, and nothing
// was answered for a tick. Apart from that, when all are at work all the time, one more or one
// less is tried for a while, and what answers more requests stays.
type pace struct {
	limit  int
	wanted int

	window
	// calm counts the windows in which not all readers were needed.
	calm int
	// trial is what is being tried: one more (1), one less (-1), or neither.
	trial int
	// before is what was answered in the window before the trial.
	before uint64
	// rest is how many windows pass until the next trial, pause how many they
	// were the last time. less tells that one less is to be tried next.
	rest, pause int
	less        bool
}

// sample is what the readers were seen doing at a tick.
type sample struct {
	busy     int    // how many have a request
	stuck    bool   // none was answered since the last tick, and a reader sleeps
	answered uint64 // requests since the last tick
}

// window sums samples up.
type window struct {
	ticks, full, peak int
	answered          uint64
}

const (
	windowTicks = 32
	// calmWindows are how long the last reader has to be of no use until it is
	// sent away: a quarter of a second.
	calmWindows = 8
	// A trial is followed by a pause, which doubles with each that failed.
	minPause, maxPause = 8, 512
)

// next returns how many readers are wanted after the sample.
func (p *pace) next(s sample) int {
	p.ticks++
	p.answered += s.answered
	p.peak = max(p.peak, s.busy)
	if s.busy >= p.wanted {
		p.full++
		switch {
		case s.stuck && p.trial < 0:
			p.end(false)
			return p.wanted
		case s.stuck && p.wanted < p.limit:
			p.settle(p.wanted + 1)
			return p.wanted
		}
	}
	if p.ticks == windowTicks {
		p.judge(p.window)
		p.window = window{}
	}
	return p.wanted
}

// settle ends a trial.
func (p *pace) settle(wanted int) {
	p.wanted, p.trial, p.calm, p.window = wanted, 0, 0, window{}
}

func (p *pace) judge(w window) {
	switch {
	case p.trial > 0:
		p.end(w.answered*10 >= p.before*11)
	case p.trial < 0:
		p.end(w.answered*100 >= p.before*97)
	case w.peak < p.wanted:
		if p.calm++; p.calm >= calmWindows {
			p.settle(max(w.peak, 1))
		}
	case w.full*10 < w.ticks*9:
		p.calm = 0
	case p.rest > 0:
		p.calm = 0
		p.rest--
	default:
		p.try(w)
	}
}

// try begins a trial.
func (p *pace) try(w window) {
	p.calm, p.before = 0, w.answered
	if p.less = !p.less; p.less && p.wanted > 1 || p.wanted == p.limit {
		p.trial = -1
	} else {
		p.trial = 1
	}
	if p.wanted+p.trial < 1 {
		p.trial = 0 // there is but one reader
		return
	}
	p.wanted += p.trial
}

// end ends a trial and takes it back if it was of no use.
func (p *pace) end(useful bool) {
	if useful {
		p.less = p.trial > 0 // and so the same is tried next
		p.pause = minPause
	} else {
		p.wanted -= p.trial
		p.pause = min(max(2*p.pause, minPause), maxPause)
	}
	if p.rest = p.pause; useful {
		p.rest = 0
	}
	p.settle(p.wanted)
}
