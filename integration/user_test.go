package integration

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// userBlocks is how many blocks a user writes to.
const userBlocks = 1024

// user writes to a disk on the mount all the time, one block after the other,
// and knows what every block holds and how long he waited. Each error fails the
// test, unless it is expected.
type user struct {
	site  *site
	file  *os.File
	rng   *rand.Rand
	holds [userBlocks]uint64 // the number that a block is full of
	done  chan struct{}
	stop  atomic.Bool

	mu    sync.Mutex
	some  *sync.Cond
	count int
	worst time.Duration
	err   error
}

func useMount(t *testing.T, s *site) *user {
	t.Helper()
	f, err := os.OpenFile(s.disk("used.img"), os.O_RDWR, 0)
	must(t, err)
	u := &user{site: s, file: f, rng: randomness(t), done: make(chan struct{})}
	u.some = sync.NewCond(&u.mu)
	go u.use()
	t.Cleanup(func() { u.end(t) })
	return u
}

func (u *user) use() {
	defer close(u.done)
	for n := uint64(1); !u.stop.Load(); n++ {
		block := u.rng.IntN(userBlocks)
		began := time.Now()
		_, err := u.file.WriteAt(blockOf(n), int64(block)*blockSize)
		took := time.Since(began)
		u.mu.Lock()
		u.count++
		u.worst = max(u.worst, took)
		u.err = err
		u.some.Broadcast()
		u.mu.Unlock()
		if err != nil {
			return
		}
		u.holds[block] = n
	}
}

// blockOf is a block full of a number.
func blockOf(n uint64) []byte {
	return bytes.Repeat(binary.LittleEndian.AppendUint64(nil, n), blockSize/8)
}

// through does something, and returns how long the user waited at most until he
// wrote again afterwards.
func (u *user) through(t *testing.T, do func()) time.Duration {
	t.Helper()
	u.mu.Lock()
	u.worst = 0
	u.mu.Unlock()
	do()
	u.goesOn(t)
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.worst
}

// goesOn waits until the user has written some more.
func (u *user) goesOn(t *testing.T) {
	t.Helper()
	late := time.AfterFunc(commandWithin, func() { u.failed(fmt.Errorf("the user hangs for %v", commandWithin)) })
	defer late.Stop()
	u.mu.Lock()
	defer u.mu.Unlock()
	for until := u.count + 10; u.count < until && u.err == nil; {
		u.some.Wait()
	}
	if u.err != nil {
		t.Fatal(u.err)
	}
}

func (u *user) failed(err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.err = err
	u.some.Broadcast()
}

// patient waits until the keeper takes the next death for the first.
func (u *user) patient(t *testing.T) {
	t.Helper()
	since := time.Now()
	eventually(t, "the keeper has its patience back", func() bool {
		u.goesOn(t)
		return time.Since(since) > 1100*time.Millisecond
	})
}

// end ends the use and compares what the disk holds, on the mount and below,
// unless the user has failed.
func (u *user) end(t *testing.T) {
	t.Helper()
	if u.file == nil {
		return
	}
	u.stop.Store(true)
	select {
	case <-u.done:
	case <-time.After(stopsWithin):
		t.Fatal("the user hangs")
	}
	defer func() { u.file = nil }()
	defer u.file.Close() //nolint:errcheck // on a dead mount it may say anything
	if u.err != nil {
		t.Errorf("the user: %v", u.err)
		return
	}
	for _, path := range []string{u.site.disk("used.img"), u.site.below("used.img")} {
		got, err := os.ReadFile(path)
		must(t, err)
		for i, n := range u.holds {
			if !bytes.Equal(got[i*blockSize:(i+1)*blockSize], blockOf(n)) {
				t.Fatalf("%s: block %d is not what was written last, %d", path, i, n)
			}
		}
	}
}

// mustFail expects the user to be told within some time that the mount is dead.
func (u *user) mustFail(t *testing.T) {
	t.Helper()
	select {
	case <-u.done:
	case <-time.After(stopsWithin):
		t.Fatal("the user hangs on a dead mount")
	}
	if u.err == nil {
		t.Error("the user saw no error")
	}
	_ = u.file.Close() // of a dead mount
	u.file = nil
}

// logPauses logs how long a user waited, and fails the test if that is more than
// any guest would bear.
func logPauses(t *testing.T, what string, goal time.Duration, all []time.Duration) {
	t.Helper()
	slices.Sort(all)
	median, longest := all[len(all)/2], all[len(all)-1]
	t.Logf("%s: %d pauses of %v in the median and %v at most (goal: %v)", what, len(all), median, longest, goal)
	if longest > 10*time.Second {
		t.Errorf("%s: a pause of %v", what, longest)
	}
}
