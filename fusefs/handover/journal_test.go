package handover

import (
	"strings"
	"testing"
)

// TestJournal follows a request through the death of those who executed it.
func TestJournal(t *testing.T) {
	fd := newState(t)
	was := [2]Identity{{Device: 1, Inode: 2, Key: strings.Repeat("k", maxKey)}, {}}

	first := mapped(t, fd).Journal()
	e, again := first.Begin(10)
	if again {
		t.Error("a new request was begun before")
	}
	e.Intend(was)
	if same, again := first.Begin(10); same != e || again {
		t.Error("a request has two entries")
	}
	answered, _ := first.Begin(12)
	answered.Finish()
	first.Answered(12)

	second := mapped(t, fd).Journal()
	if _, again := second.Begin(12 | resent); again {
		t.Error("what was answered is remembered")
	}
	second.Answered(12 | resent)
	if e, again := second.Begin(10); again || e.Finished() {
		t.Error("a request that is not sent again is another one") // ids never come twice
	}
	second.Answered(10)

	third := mapped(t, fd).Journal()
	e, again = third.Begin(10 | resent)
	if !again || e.Before() != was || e.Finished() {
		t.Errorf("again %t, %+v, finished %t", again, e.Before(), e.Finished())
	}
	e.Finish()

	// One more dies; then many others come before it is asked for.
	fourth := mapped(t, fd).Journal()
	for i := range uint64(JournalSize - 1) {
		fourth.Begin(100 + 2*i)
		fourth.Answered(100 + 2*i)
	}
	if e, again := fourth.Begin(10 | resent); !again || !e.Finished() {
		t.Errorf("again %t, finished %t", again, e.Finished())
	}
	fourth.Answered(10 | resent)
	if _, again := fourth.Begin(10 | resent); again {
		t.Error("what was answered is remembered")
	}
}

// TestJournalFull has more requests under way than there are entries: those
// under way keep theirs.
func TestJournalFull(t *testing.T) {
	fd := newState(t)
	j := mapped(t, fd).Journal()
	for i := range uint64(JournalSize) {
		if e, _ := j.Begin(2 + 2*i); e == nil {
			t.Fatalf("no entry for request %d", i)
		}
	}
	e, again := j.Begin(1 << 20)
	if e != nil || again {
		t.Fatal("an entry is given twice")
	}
	e.Intend([2]Identity{})
	e.Finish()
	next := mapped(t, fd).Journal()
	for i := range uint64(JournalSize) {
		if _, again := next.Begin((2 + 2*i) | resent); !again {
			t.Errorf("request %d is forgotten", i)
		}
	}
	var none *Journal
	if e, again := none.Begin(2); e != nil || again {
		t.Error("no journal has an entry")
	}
	none.Answered(2)
}
