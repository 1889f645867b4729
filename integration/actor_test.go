package integration

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// common is a directory in which all actors work, each on names of its own.
	common = "common"
	// keptOpen is how many descriptors an actor has.
	keptOpen = 8
	// manyNames is when an actor begins to remove more than it makes.
	manyNames = 50
	// lookEvery so many operations all that the actor made is compared.
	lookEvery = 1000
	// remembered are the last operations, which are told when one is wrong.
	remembered = 25
)

// plentiful is how names begin that only fill directories.
var plentiful = strings.Repeat("n", 50)

// names are what those that an actor makes end in; some look like disks, so that
// the kernel does not pass them through.
var names = []string{"a", "b", "c", "d", "e.img", "f.img", "g.raw"}

// actor makes random system calls, each in two places in turn.
type actor struct {
	number string // its own names begin with it, so that no link leads to another's
	dir    string // of its own
	rng    *rand.Rand
	places [2]*place // the plain folder, and the mount
	seen   []string  // the paths that were there a while ago

	mu      sync.Mutex
	changed *sync.Cond
	count   int // of operations
	err     error
	said    map[string]int // how operations ended
	last    []string       // operations, with how they ended
}

// place is a folder with what an actor has open in it.
type place struct {
	root string
	open [keptOpen]int // descriptors, or -1
}

func (p *place) path(name string) string { return filepath.Join(p.root, name) }

func newActor(t *testing.T, rng *rand.Rand, number int, plain, mount string) *actor {
	t.Helper()
	a := &actor{
		number: fmt.Sprint(number), dir: fmt.Sprintf("actor%d", number), rng: rand.New(rand.NewPCG(rng.Uint64(), rng.Uint64())),
		places: [2]*place{{root: plain}, {root: mount}}, said: map[string]int{},
	}
	a.changed = sync.NewCond(&a.mu)
	for _, p := range a.places {
		for i := range p.open {
			p.open[i] = -1
		}
		must(t, unix.Mkdir(p.path(a.dir), 0o755))
		// So listing it takes several requests.
		for i := range 100 {
			must(t, unix.Mknod(p.path(fmt.Sprintf("%s/%s%03d", a.dir, plentiful, i)), unix.S_IFREG|0o600, 0))
		}
	}
	return a
}

// run makes system calls until stop is closed or two places differ.
func (a *actor) run(stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		err := a.step()
		a.mu.Lock()
		a.count++
		a.err = err
		a.changed.Broadcast()
		a.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// step does one operation, and now and then looks at everything.
func (a *actor) step() error {
	if a.count%lookEvery == lookEvery-1 {
		if want, is := landscape(a.places[0].root, a.number), landscape(a.places[1].root, a.number); !slices.Equal(want, is) {
			return a.wrong("the places differ:\n" + differing(want, is))
		}
	}
	if a.count%20 == 0 {
		a.seen = paths(a.places[0].root, a.number)
	}
	o := a.choose()
	want, is := o.do(a.places[0]), o.do(a.places[1])
	if len(a.last) == remembered {
		a.last = a.last[1:]
	}
	a.last = append(a.last, o.what+": "+want)
	if want != is {
		return a.wrong(fmt.Sprintf("%s\n  in the plain folder: %s\n  on the mount:        %s", o.what, want, is))
	}
	how, _, _ := strings.Cut(want, " ")
	a.said[o.name+" "+how]++
	return nil
}

func (a *actor) wrong(what string) error {
	return fmt.Errorf("operation %d of %s: %s\nthe last operations:\n%s", a.count, a.dir, what, strings.Join(a.last, "\n"))
}

// failed returns the first difference, when the actor has ended.
func (a *actor) failed() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.err
}

// do waits for n more operations.
func (a *actor) do(t *testing.T, n int) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	late := false
	deadline := time.AfterFunc(commandWithin, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		late = true
		a.changed.Broadcast()
	})
	defer deadline.Stop()
	for until := a.count + n; a.count < until && a.err == nil && !late; {
		a.changed.Wait()
	}
	must(t, a.err)
	if late {
		t.Fatalf("%s waits for an answer for ever", a.dir)
	}
}

func (a *actor) closeAll() {
	for _, p := range a.places {
		for i, fd := range p.open {
			if fd >= 0 {
				_ = unix.Close(fd)
				p.open[i] = -1
			}
		}
	}
}

// existing is one of the paths that were there.
func (a *actor) existing() string {
	if len(a.seen) == 0 {
		return filepath.Join(a.dir, a.own())
	}
	return a.seen[a.rng.IntN(len(a.seen))]
}

// fresh is a name in a directory, which may be there, or the directory not.
func (a *actor) fresh() string {
	name := a.own()
	switch a.rng.IntN(5) {
	case 0, 1:
		return filepath.Join(a.dir, name)
	case 2:
		return filepath.Join(common, name)
	case 3:
		return filepath.Join(a.dir, a.own(), name)
	}
	parent := a.existing()
	if strings.Count(parent, "/") > 3 {
		parent = a.dir
	}
	return filepath.Join(parent, name)
}

// own is one of the actor's names.
func (a *actor) own() string { return a.number + names[a.rng.IntN(len(names))] }

// any is either.
func (a *actor) any() string {
	if a.rng.IntN(3) == 0 {
		return a.fresh()
	}
	return a.existing()
}

// errno is the name of how a system call ended.
func errno(err error) string {
	if e, ok := errors.AsType[unix.Errno](err); ok {
		return unix.ErrnoName(e)
	}
	if err != nil {
		return err.Error()
	}
	return "ok"
}
