package fusefs

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestInquiries asks somebody who does not answer: a second question does not
// cost a second thread, and when he answers at last, he is asked anew.
func TestInquiries(t *testing.T) {
	q := newInquiries(10 * time.Millisecond)
	answers, asked := make(chan struct{}), 0
	mute := func() { asked++; <-answers }
	for range 3 {
		if q.ask("mute", mute) {
			t.Fatal("there is an answer")
		}
	}
	if !q.ask("another", func() {}) {
		t.Error("one who does not answer keeps another from it")
	}
	first := q.pending["mute"]
	close(answers)
	<-first.done
	if asked != 1 {
		t.Errorf("he was asked %d times", asked)
	}
	if !q.ask("mute", mute) || asked != 2 {
		t.Errorf("he was asked %d times", asked)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.pending) != 0 {
		t.Errorf("%d questions are open", len(q.pending))
	}
}

// TestHungProcess has a process whose memory map cannot be read: it may have
// any file mapped.
func TestHungProcess(t *testing.T) {
	was := processInquiries
	processInquiries = newInquiries(10 * time.Millisecond)
	defer func() { processInquiries = was }()
	p := process(t.TempDir())
	maps := filepath.Join(string(p), "maps")
	must(t, unix.Mkfifo(maps, 0o600)) // without a writer, opening it takes for ever
	if p.mappings(func(FileID, string) {}) {
		t.Error("a process that hangs has shown what it has mapped")
	}
	uses, reads := p.usesBelow(FileID{Device: 1, Inode: 2})
	if !slices.Equal(uses, []string{hangs}) || len(reads) != 0 {
		t.Errorf("it writes by %q and reads by %q", uses, reads)
	}
	writer, err := os.OpenFile(maps, os.O_WRONLY, 0)
	must(t, err)
	processInquiries.mu.Lock()
	pending := processInquiries.pending[maps]
	processInquiries.mu.Unlock()
	must(t, writer.Close())
	<-pending.done
	must(t, os.Remove(maps))
	must(t, os.WriteFile(maps, []byte("7f0c8a000000-7f0c8a021000 rw-s 00000000 00:01 2 /a\n7f0c8a000000-7f0c8a021000 r--s 00000000 00:01 3 /b\n"), 0o600))
	if uses, reads = p.usesBelow(FileID{Device: 1, Inode: 2}); !slices.Equal(uses, []string{"mapping"}) || len(reads) != 0 {
		t.Errorf("it writes by %q and reads by %q", uses, reads)
	}
	if uses, reads = p.usesBelow(FileID{Device: 1, Inode: 3}); !slices.Equal(reads, []string{"mapping"}) || len(uses) != 0 {
		t.Errorf("it writes by %q and reads by %q", uses, reads)
	}
}
