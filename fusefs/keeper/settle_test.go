package keeper

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"lifeboat/fusefs/handover"
)

var errCrashed = errors.New("crashed")

// TestStandbyTakesOver has the filter die: the one that stands by begins at
// once, and another one is started only when it is ready.
func TestStandbyTakesOver(t *testing.T) {
	play(t, true, func(s *stage) {
		s.is(1, 0)
		s.filters[0].says(handover.Prepared)
		s.pass(time.Second)
		s.is(1, 0, "begin") // none stands by before the first is ready
		s.filters[0].says(handover.Ready)
		s.is(2, 1)
		s.filters[1].says(handover.Prepared)
		s.is(2, 1)
		s.filters[0].die(errCrashed)
		s.is(2, 1, "begin")
		s.filters[1].says(handover.Ready)
		s.is(3, 2)
		// The next dies before the one that stands by is prepared.
		s.filters[1].die(errCrashed)
		s.pass(firstPause)
		s.is(3, 2)
		s.filters[2].says(handover.Prepared)
		s.is(3, 2, "begin")
	})
}

// TestNoStandby starts a filter when it is needed.
func TestNoStandby(t *testing.T) {
	play(t, false, func(s *stage) {
		s.serving()
		s.is(1, 0, "begin")
		s.pass(time.Minute)
		s.filters[0].die(errCrashed)
		s.is(2, 1)
		s.filters[1].says(handover.Prepared)
		s.is(2, 1, "begin")
	})
}

// TestStandbyDies has filters that stand by die: the one that serves is left
// alone, and they are started less and less often.
func TestStandbyDies(t *testing.T) {
	play(t, true, func(s *stage) {
		s.serving()
		for n, pause := range []time.Duration{100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 60000, 60000} {
			s.filters[n+1].die(errCrashed)
			s.pass(pause*time.Millisecond - 1)
			s.is(n+2, 0, "begin")
			s.pass(1)
			s.is(n+3, n+2)
		}
		s.filters[13].die(errCrashed)
		s.is(14, 0, "begin")
		s.filters[0].die(errCrashed) // now one is needed
		s.is(15, 14)
		s.filters[14].says(handover.Prepared)
		s.is(15, 14, "begin")
	})
}

// TestStandbyCannotStart has the system refuse: the filter serves on.
func TestStandbyCannotStart(t *testing.T) {
	play(t, true, func(s *stage) {
		s.refuse = errors.New("no memory")
		s.filters[0].says(handover.Prepared, handover.Ready)
		s.pass(time.Hour)
		s.is(1, 0, "begin")
		s.refuse = nil
		s.pass(longestStandby)
		s.is(2, 0, "begin")
	})
}

// TestSlow has a filter that does not get prepared: it is killed in time.
func TestSlow(t *testing.T) {
	play(t, true, func(s *stage) {
		s.filters[0].says(handover.Prepared, handover.Ready)
		s.pass(preparedWithin - 1)
		s.is(2, 1)
		s.pass(1)
		s.is(2, 1, "kill")
		s.pass(firstPause)
		s.is(3, 0, "begin")
	})
}

// TestHangs has the filter give no sign of life.
func TestHangs(t *testing.T) {
	play(t, true, func(s *stage) {
		s.serving()
		s.pass(time.Minute)
		s.silence((looks - 1) * lookEvery)
		s.pass(time.Second)
		s.silence((looks - 2) * lookEvery)
		s.is(2, 0, "begin")
		s.silence(2 * lookEvery)
		s.is(2, 0, "begin", "kill")
		s.is(2, 1, "begin")
		// One that never begins hangs, too.
		s.silence((looks + 1) * lookEvery)
		s.is(3, 1, "begin", "kill")
	})
}

// TestSlowDisk has the filter wait for its disk for an hour: it is not killed
// for that, but when it hangs without.
func TestSlowDisk(t *testing.T) {
	play(t, true, func(s *stage) {
		s.serving()
		s.filters[0].onDisk = true
		s.silence(time.Hour)
		s.is(2, 0, "begin")
		s.pass(time.Minute)
		s.filters[0].onDisk = false
		s.silence((looks - 1) * lookEvery)
		s.is(2, 0, "begin")
		s.silence(2 * lookEvery)
		s.is(2, 0, "begin", "kill")
	})
}

// TestSlowToDie has a filter not die at once of being killed: no other begins
// before it is gone.
func TestSlowToDie(t *testing.T) {
	play(t, true, func(s *stage) {
		s.serving()
		s.filters[0].stubborn = true
		s.silence(time.Hour)
		s.is(2, 0, "begin", "kill")
		s.is(2, 1)
		s.filters[0].die(errKilled)
		s.is(2, 1, "begin")
	})
}

// TestBackOff shows how long a keeper with patience waits, and that it does not
// for what dies after it served.
func TestBackOff(t *testing.T) {
	play(t, false, func(s *stage) {
		s.serving()
		began := time.Now()
		for n, lived := range []time.Duration{0, 0, time.Second, 0, 0} {
			s.pass(lived)
			began = began.Add(lived)
			s.filters[n].die(errCrashed)
			for len(s.filters) < n+2 {
				s.pass(time.Millisecond)
			}
			s.filters[n+1].says(handover.Prepared, handover.Ready)
		}
		// 0, 100; then 0 anew, 100, 200 ms.
		if waited := time.Since(began); waited != 400*time.Millisecond {
			t.Errorf("waited for %v", waited)
		}
		s.filters[5].die(errCrashed)
		if err := <-s.done; !errors.Is(err, ErrGivenUp) || !errors.Is(err, errCrashed) {
			t.Errorf("patience ends with %v", err)
		}
		s.done <- nil
		if pauseAfter(40, longestPause) != longestPause || pauseAfter(1, longestPause) != 0 {
			t.Error("pauses are too long")
		}
	})
}

// TestStop has a filter asked to stop when it is ready, not before, and those
// that stand by ended with it.
func TestStop(t *testing.T) {
	play(t, true, func(s *stage) {
		s.filters[0].says(handover.Prepared)
		s.cancel()
		synctest.Wait()
		s.is(1, 0, "begin")
		s.filters[0].says(handover.Ready)
		s.is(1, 0, "begin", "signal") // and none stands by any more
	})
	play(t, true, func(s *stage) {
		s.serving()
		s.cancel()
		synctest.Wait()
		s.is(2, 0, "begin", "signal")
		s.ended = true
		s.filters[0].die(nil)
		s.is(2, 1, "kill")
		if err := <-s.done; err != nil {
			t.Error(err)
		}
		s.done <- nil
	})
}

// TestFirst has the first filter fail in either stage: that is the end.
func TestFirst(t *testing.T) {
	for _, words := range [][]handover.Word{nil, {handover.Prepared}} {
		play(t, true, func(s *stage) {
			s.filters[0].says(words...)
			s.filters[0].die(errCrashed)
			if err := <-s.done; !errors.Is(err, errCrashed) || len(s.filters) != 1 {
				t.Errorf("after %q: %v and %d filters", words, err, len(s.filters))
			}
			s.done <- nil
		})
	}
}

// TestOldKernel has the filter die where the kernel cannot send again.
func TestOldKernel(t *testing.T) {
	play(t, true, func(s *stage) {
		s.k.mount.resends = false
		s.filters[0].says(handover.Prepared, handover.Ready)
		s.is(1, 0, "begin")
		s.filters[0].die(errCrashed)
		if err := <-s.done; !errors.Is(err, errCrashed) {
			t.Error(err)
		}
		s.done <- nil
	})
}

// TestEnded has somebody take the mount off while no filter serves it.
func TestEnded(t *testing.T) {
	play(t, true, func(s *stage) {
		s.serving()
		s.filters[0].die(errCrashed)
		s.filters[1].says(handover.Ready)
		s.filters[1].die(errCrashed) // the second time there is a pause
		s.ended = true
		s.silence(firstPause)
		if err := <-s.done; err != nil {
			t.Error(err)
		}
		s.done <- nil
	})
}
