package blobstoretest_test

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"lifeboat/replica/blobstore"
	"lifeboat/replica/blobstore/blobstoretest"
	"lifeboat/replica/blobstore/directory"
)

func faulty(t *testing.T, faults ...blobstoretest.Fault) *blobstoretest.Faulty {
	t.Helper()
	s, err := directory.Open(t.TempDir(), directory.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return blobstoretest.NewFaulty(s, faults...)
}

// TestFaultlessFaulty holds the wrapper to the contract when it injects nothing.
func TestFaultlessFaulty(t *testing.T) {
	blobstoretest.Run(t, blobstoretest.Suite{
		Open: func(t *testing.T) blobstore.Store { return faulty(t) },
		OpenMissing: func(t *testing.T) blobstore.Store {
			return faulty(t, blobstoretest.Fault{Err: &blobstore.Error{
				Kind: blobstore.ErrStoreMissing, Class: blobstore.Unrecoverable, Hint: "create it",
			}})
		},
		LargeSize: 10000,
	})
}

// TestFailEach fails the 1st, 2nd, 3rd… operation until the work succeeds.
func TestFailEach(t *testing.T) {
	for n := 1; ; n++ {
		s := faulty(t, blobstoretest.Fault{Nth: n})
		err := work(t, s)
		if s.Struck() == 0 {
			if err != nil {
				t.Fatalf("work without a fault: %v", err)
			}
			if n != 7 || s.Calls(blobstoretest.Any) != 6 {
				t.Errorf("work has %d operations, counted %d; want 6", n-1, s.Calls(blobstoretest.Any))
			}
			return
		}
		if !errors.Is(err, blobstoretest.ErrInjected) || blobstore.ClassOf(err) != blobstore.Recoverable {
			t.Errorf("operation %d failed, work says %v", n, err)
		}
	}
}

// work does each operation once, and stops at the first that fails.
func work(t *testing.T, s blobstore.Store) error {
	t.Helper()
	if err := s.Put(t.Context(), "a/b", bytes.NewReader([]byte("content")), 7); err != nil {
		return err
	}
	if _, err := blobstore.ReadAll(t.Context(), s, "a/b", 100); err != nil {
		return err
	}
	if _, err := s.Stat(t.Context(), "a/b"); err != nil {
		return err
	}
	for _, err := range s.List(t.Context(), "") {
		if err != nil {
			return err
		}
	}
	for _, err := range s.Prefixes(t.Context(), "") {
		if err != nil {
			return err
		}
	}
	return s.Delete(t.Context(), "a/b")
}

func TestLostReply(t *testing.T) {
	s := faulty(t, blobstoretest.Fault{Op: blobstoretest.Put, Effect: blobstoretest.LostReply, Within: "manifest"})
	if err := s.Put(t.Context(), "other", bytes.NewReader(nil), 0); err != nil {
		t.Fatal(err)
	}
	err := s.Put(t.Context(), "manifest", bytes.NewReader([]byte("m")), 1)
	if !errors.Is(err, blobstoretest.ErrInjected) {
		t.Errorf("put: %v", err)
	}
	if got := blobstoretest.MustGet(t, s, "manifest"); string(got) != "m" {
		t.Errorf("blob after a lost reply: %q", got)
	}
}

func TestBrokenReads(t *testing.T) {
	content := blobstoretest.Content(1, 10000)
	for _, at := range []int64{0, 1, 5000, 9999} {
		s := faulty(t)
		blobstoretest.MustPut(t, s, "blob", content)
		s.Add(
			blobstoretest.Fault{Op: blobstoretest.Get, Nth: 1, Effect: blobstoretest.CutShort, At: at},
			blobstoretest.Fault{Op: blobstoretest.Get, Nth: 2, Effect: blobstoretest.Corrupt, At: at},
		)
		r, err := s.Get(t.Context(), "blob", 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if !errors.Is(err, blobstoretest.ErrInjected) || !bytes.Equal(got, content[:at]) {
			t.Errorf("cut at %d: %d bytes, %v", at, len(got), err)
		}
		_ = r.Close()
		got = blobstoretest.MustGet(t, s, "blob")
		got[at] ^= 0x10
		if !bytes.Equal(got, content) {
			t.Errorf("corrupt at %d: other bytes differ", at)
		}
		if s.Heal(); !bytes.Equal(blobstoretest.MustGet(t, s, "blob"), content) {
			t.Error("healed store yields other content")
		}
	}
}

func TestCutList(t *testing.T) {
	s := faulty(t)
	for _, name := range []string{"a", "b", "c"} {
		blobstoretest.MustPut(t, s, name, nil)
	}
	s.Add(blobstoretest.Fault{Op: blobstoretest.List, Effect: blobstoretest.CutShort, At: 2})
	var names []string
	var failure error
	for info, err := range s.List(t.Context(), "") {
		if failure = err; err == nil {
			names = append(names, info.Name)
		}
	}
	if len(names) != 2 || !errors.Is(failure, blobstoretest.ErrInjected) {
		t.Errorf("cut list: %q, %v", names, failure)
	}
}
