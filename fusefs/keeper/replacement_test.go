package keeper

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"lifeboat/fusefs/handover"
)

// wanted is a replacement that a test has asked for.
type wanted struct {
	stage   *stage
	program *Program
	answers []error
}

func (s *stage) replace() *wanted {
	w := &wanted{stage: s, program: s.open()}
	s.k.requests <- request{w.program, func(_ Replaced, err error) { w.answers = append(w.answers, err) }}
	synctest.Wait()
	return w
}

// failed fails the test unless the replacement did, with a reason, and filters
// of the old program go on.
func (w *wanted) failed(why string) {
	w.stage.t.Helper()
	if len(w.answers) != 1 || !errors.Is(w.answers[0], ErrNotReplaced) || !strings.Contains(w.answers[0].Error(), why) {
		w.stage.t.Errorf("the answers are %v, not one with %q", w.answers, why)
	}
	if w.stage.k.program == w.program || w.stage.k.replacement != nil {
		w.stage.t.Error("the old program does not go on")
	}
}

func (w *wanted) succeeded() {
	w.stage.t.Helper()
	if len(w.answers) != 1 || w.answers[0] != nil {
		w.stage.t.Errorf("the answers are %v, not one without an error", w.answers)
	}
	if w.stage.k.program != w.program || w.stage.k.replacement != nil {
		w.stage.t.Error("the new program does not go on")
	}
}

// TestReplace goes through all stages, with and without a standby.
func TestReplace(t *testing.T) {
	for _, standby := range []bool{false, true} {
		play(t, standby, func(s *stage) {
			s.serving()
			n := len(s.filters) // the candidate's number
			w := s.replace()
			s.is(n+1, n)
			if s.filters[n].program != w.program {
				t.Error("the candidate is of the old program")
			}
			s.is(n+1, 0, "begin")
			s.filters[n].says(handover.Prepared)
			s.is(n+1, 0, "begin", "let go")
			s.filters[0].stubborn = true
			s.filters[0].says(handover.LetGo)
			s.is(n+1, 0, "begin", "let go", "kill")
			s.is(n+1, n) // not before the old one is gone
			s.filters[0].die(errKilled)
			s.is(n+1, n, "begin")
			s.filters[n].says(handover.Ready)
			w.succeeded()
			if standby {
				s.pass(provenAfter - 1)
				s.is(n+1, 1)
				s.pass(1)
				s.is(n+2, 1, "kill") // that of the old program
				if s.filters[n+1].program != w.program {
					t.Error("the one that stands by is of the old program")
				}
			}
			if s.k.deaths != 0 {
				t.Error("it counts as a death")
			}
		})
	}
}

// TestCandidateFails has the new program fail in each stage: the filter that
// serves, or the one that stands by, goes on.
func TestCandidateFails(t *testing.T) {
	for name, c := range map[string]struct {
		why  string
		fail func(s *stage, candidate *fake)
		old  []string // what the keeper did to the filter that served
		next []string // to the one that stood by
	}{
		"dies": {"crashed", func(_ *stage, c *fake) { c.die(errCrashed) }, []string{"begin"}, nil},
		"leaves": {"left", func(_ *stage, c *fake) {
			c.die(nil)
		}, []string{"begin"}, nil},
		"refuses": {"version 9", func(_ *stage, c *fake) {
			c.heard.said(handover.Refused, 0, "version 9")
			c.die(errCrashed)
		}, []string{"begin"}, nil},
		"hangs": {"not prepared within", func(s *stage, _ *fake) { s.pass(candidateWithin) }, []string{"begin"}, nil},
		"dies while the old one lets go": {"crashed", func(_ *stage, c *fake) {
			c.says(handover.Prepared)
			c.die(errCrashed)
		}, []string{"begin", "let go", "go on"}, nil},
		"dies when the old one has let go": {"crashed", func(s *stage, c *fake) {
			c.says(handover.Prepared)
			s.filters[0].stubborn = true
			s.filters[0].says(handover.LetGo)
			c.die(errCrashed)
			s.filters[0].die(errKilled)
		}, []string{"begin", "let go", "kill", "go on"}, []string{"begin"}},
		"dies before it is ready": {"crashed", func(s *stage, c *fake) {
			c.says(handover.Prepared)
			s.filters[0].says(handover.LetGo)
			c.die(errCrashed)
		}, []string{"begin", "let go", "kill"}, []string{"begin"}},
		"is never ready": {"not ready within", func(s *stage, c *fake) {
			c.says(handover.Prepared)
			s.filters[0].says(handover.LetGo)
			s.pass(candidateWithin)
		}, []string{"begin", "let go", "kill"}, []string{"begin"}},
		"hangs when it begins": {"no sign of life", func(s *stage, c *fake) {
			c.says(handover.Prepared)
			s.filters[0].says(handover.LetGo)
			s.silence((looks + 1) * lookEvery)
		}, []string{"begin", "let go", "kill"}, []string{"begin"}},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, true, func(s *stage) {
				s.serving()
				w := s.replace()
				c.fail(s, s.filters[2])
				w.failed(c.why)
				s.is(3, 0, c.old...)
				s.is(3, 1, c.next...)
				if s.k.deaths != 0 {
					t.Error("it counts as a death")
				}
				if c.next != nil {
					s.filters[1].says(handover.Ready)
				}
				// And another one succeeds.
				for _, f := range s.filters {
					if f.dead {
						continue
					}
					f.says(handover.Prepared)
				}
				serving := s.k.serving.process.(*fake)
				w = s.replace()
				s.filters[len(s.filters)-1].says(handover.Prepared)
				serving.says(handover.LetGo)
				s.filters[len(s.filters)-1].says(handover.Ready)
				w.succeeded()
			})
		})
	}
}

// TestNotProven has the new program's filter die when it has served, but not for
// long: the old program goes on, from one that stood by or was started.
func TestNotProven(t *testing.T) {
	for _, standby := range []bool{false, true} {
		play(t, standby, func(s *stage) {
			s.serving()
			old, n := s.k.program, len(s.filters)
			w := s.replace()
			s.filters[n].says(handover.Prepared)
			s.filters[0].says(handover.LetGo)
			s.filters[n].says(handover.Ready)
			w.succeeded()
			s.pass(provenAfter - 1)
			s.filters[n].die(errCrashed)
			if s.k.program != old || s.k.former != nil {
				t.Error("the new program goes on")
			}
			if standby {
				s.is(n+1, 1, "begin")
			} else if s.is(n+2, n+1); s.filters[n+1].program != old {
				t.Error("a filter of the new program is started")
			}
		})
	}
	play(t, true, func(s *stage) { // the one that stood by dies, too, and then the new one
		s.serving()
		old := s.k.program
		w := s.replace()
		s.filters[2].says(handover.Prepared)
		s.filters[0].says(handover.LetGo)
		s.filters[2].says(handover.Ready)
		s.filters[1].die(errCrashed)
		s.pass(time.Second)
		s.is(4, 3)
		if s.filters[3].program != old {
			t.Error("one of the new program stands by before it is proven")
		}
		s.pass(provenAfter)
		s.is(5, 3, "kill")
		s.filters[4].says(handover.Prepared)
		s.filters[2].die(errCrashed)
		s.is(5, 4, "begin")
		if s.k.program != w.program || s.filters[4].program != w.program {
			t.Error("the new program does not go on when it is proven")
		}
	})
}

// TestReplacedTwice replaces a program that is not proven yet: what would take
// over is the one before it.
func TestReplacedTwice(t *testing.T) {
	play(t, true, func(s *stage) {
		s.serving()
		first := s.k.program
		second := s.replace()
		s.filters[2].says(handover.Prepared)
		s.filters[0].says(handover.LetGo)
		s.filters[2].says(handover.Ready)
		second.succeeded()
		s.is(3, 1)
		if s.k.former != first {
			t.Error("another program than the first would take over")
		}
		third := s.replace()
		s.filters[3].says(handover.Prepared)
		s.filters[2].says(handover.LetGo)
		s.filters[3].says(handover.Ready)
		third.succeeded()
		s.is(5, 1, "kill")
		if s.k.former != second.program || s.filters[4].program != second.program {
			t.Error("another program than the second would take over")
		}
	})
}

// TestNotDrained has requests under way for too long: the filter goes on, and
// that it let go later means nothing.
func TestNotDrained(t *testing.T) {
	play(t, true, func(s *stage) {
		s.serving()
		w := s.replace()
		s.filters[2].says(handover.Prepared)
		s.pass(drainedWithin - 1)
		s.is(3, 0, "begin", "let go")
		s.pass(1)
		s.is(3, 0, "begin", "let go", "go on")
		s.is(3, 2, "kill")
		w.failed("under way")
		s.filters[0].says(handover.LetGo)
		s.is(3, 0, "begin", "let go", "go on")
		// Nor does it for the next attempt.
		s.replace()
		s.filters[3].says(handover.Prepared)
		s.filters[0].heard.said(handover.LetGo, 1, "")
		synctest.Wait()
		s.is(4, 0, "begin", "let go", "go on", "let go")
	})
}

// TestDiesMeanwhile has the filter that serves die in the middle of a
// replacement.
func TestDiesMeanwhile(t *testing.T) {
	play(t, true, func(s *stage) { // the candidate is not prepared
		s.serving()
		w := s.replace()
		s.filters[0].die(errCrashed)
		s.is(3, 1, "begin")
		s.filters[2].says(handover.Prepared)
		s.is(3, 1, "begin")
		s.filters[1].says(handover.Ready)
		s.is(3, 1, "begin", "let go")
		s.filters[1].says(handover.LetGo)
		s.is(3, 2, "begin")
		s.filters[2].says(handover.Ready)
		w.succeeded()
	})
	play(t, true, func(s *stage) { // it is
		s.serving()
		w := s.replace()
		s.filters[2].says(handover.Prepared)
		s.filters[0].die(errCrashed)
		s.is(3, 2, "begin")
		s.filters[2].says(handover.Ready)
		w.succeeded()
	})
	play(t, true, func(s *stage) { // the mount is taken off
		s.serving()
		w := s.replace()
		s.filters[2].says(handover.Prepared)
		s.ended = true
		s.filters[0].die(nil)
		w.failed("the mount has ended")
		if err := <-s.done; err != nil {
			t.Error(err)
		}
		s.done <- nil
	})
}

// TestReplaceRefused asks for what cannot be.
func TestReplaceRefused(t *testing.T) {
	play(t, true, func(s *stage) {
		s.replace().failed("not ready yet")
		s.serving()
		first := s.replace()
		s.replaceTwice("another")
		s.cancel()
		synctest.Wait()
		first.failed("asked to stop")
		s.replace().failed("asked to stop")
	})
	play(t, true, func(s *stage) {
		s.k.mount.resends = false
		s.filters[0].says(handover.Prepared, handover.Ready)
		s.replace().failed("6.9")
		s.pass(time.Minute)
		s.is(1, 0, "begin")
	})
}

// replaceTwice is replace while another one is under way.
func (s *stage) replaceTwice(why string) {
	s.t.Helper()
	under := s.k.replacement
	w := s.replace()
	if len(w.answers) != 1 || !strings.Contains(w.answers[0].Error(), why) || s.k.replacement != under {
		s.t.Errorf("the answers are %v", w.answers)
	}
}
