package blobstoretest

import (
	"fmt"
	"slices"
	"sort"
	"strings"
	"testing"

	"lifeboat/replica/blobstore"
)

// awkward are names whose order is that of their bytes and of nothing else: "-"
// and "." sort before the slash, letters and digits after it, capitals first.
func awkward() []string {
	return []string{
		"a", "A", "b-c", "b.c", "b/c", "b/c-d", "b0", "b_c", "ba/x", "B/x", "c/d/e/f/g", "c/d/e.f", "c/d-e/f", "c/d0",
		"vms/0/points/0000000000000001.json", "vms/0/points/000000000000000a.json", "vms/0/points/0000000000000010.json",
		"vms/0/disks/1/0000000000000001-0000.seg", "vms/01/vm-1.json", "vms/0.x", "vms/0-x", "Z", "z", "_", "-",
	}
}

func testList(t *testing.T, suite Suite) {
	s := suite.Open(t)
	if names := Names(t, s, ""); len(names) != 0 {
		t.Fatalf("empty store lists %q", names)
	}
	names := awkward()
	for i := range 2*suite.Page + 1 {
		names = append(names, fmt.Sprintf("many/%08x.seg", i*7919))
	}
	for i, name := range names {
		MustPut(t, s, name, Content(uint64(i), int64(i)))
	}
	sizes := make(map[string]int64)
	for i, name := range names {
		sizes[name] = int64(i)
	}
	sort.Strings(names)
	for _, prefix := range []string{
		"", "a", "A", "b", "b/", "b-", "b.", "b/c", "c/d", "c/d/", "c/d/e/f/g", "c/d/e/f/g/", "vms/", "vms/0", "vms/0/",
		"vms/0/points/000000000000000", "many/", "many/0000", "nothing", "nothing/at/all", "a/b", "-", "_",
	} {
		var want []string
		for _, name := range names {
			if strings.HasPrefix(name, prefix) {
				want = append(want, name)
			}
		}
		if got := Names(t, s, prefix); !slices.Equal(got, want) {
			t.Errorf("list %q:\n got %q\nwant %q", prefix, got, want)
		}
	}
	for info, err := range s.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		if info.Size != sizes[info.Name] || info.Modified.IsZero() {
			t.Errorf("list yields %+v, want size %d", info, sizes[info.Name])
		}
	}
}

// testListStops leaves the loop early, and at a page's end.
func testListStops(t *testing.T, suite Suite) {
	s := suite.Open(t)
	count := 2*suite.Page + 3
	for i := range count {
		MustPut(t, s, fmt.Sprintf("blobs/%04d/x", i), nil)
	}
	for _, stop := range []int{1, max(suite.Page, 1), count - 1} {
		seen := 0
		for _, err := range s.List(t.Context(), "") {
			if err != nil {
				t.Fatal(err)
			}
			if seen++; seen == stop {
				break
			}
		}
		if seen != stop {
			t.Errorf("%d blobs seen, want %d", seen, stop)
		}
		seen = 0
		for _, err := range s.Prefixes(t.Context(), "blobs/") {
			if err != nil {
				t.Fatal(err)
			}
			if seen++; seen == stop {
				break
			}
		}
		if seen != stop {
			t.Errorf("%d prefixes seen, want %d", seen, stop)
		}
	}
}

func testPrefixes(t *testing.T, suite Suite) {
	s := suite.Open(t)
	names := []string{"a/b/c", "a/b/d", "a/e", "a/f-g/h", "a/f/h", "a/f0/x/y/z", "g", "h/i"}
	for i := range 2*suite.Page + 1 {
		names = append(names, fmt.Sprintf("many/%04d/x", i), fmt.Sprintf("many/%04d/y", i))
	}
	for _, name := range names {
		MustPut(t, s, name, nil)
	}
	MustPut(t, s, "gone/by/x", nil)
	if err := s.Delete(t.Context(), "gone/by/x"); err != nil {
		t.Fatal(err)
	}
	var many []string
	for i := range 2*suite.Page + 1 {
		many = append(many, fmt.Sprintf("%04d", i))
	}
	for prefix, want := range map[string][]string{
		"":             {"a", "h", "many"},
		"a/":           {"b", "f", "f-g", "f0"},
		"a/b/":         {},
		"a/f0/":        {"x"},
		"g/":           {},
		"nothing/":     {},
		"gone/":        {},
		"many/":        many,
		"nothing/now/": {},
	} {
		got := prefixesOf(t, s, prefix)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("prefixes of %q: %q, want %q", prefix, got, want)
		}
	}
	for _, bad := range []string{"a", "/", "a//", "../", "a/../"} {
		failed := false
		for _, err := range s.Prefixes(t.Context(), bad) {
			failed = err != nil
		}
		if !failed {
			t.Errorf("prefixes of %q succeeded", bad)
		}
	}
}

func prefixesOf(t *testing.T, s blobstore.Store, prefix string) []string {
	t.Helper()
	got := []string{}
	for element, err := range s.Prefixes(t.Context(), prefix) {
		if err != nil {
			t.Fatalf("prefixes of %q: %v", prefix, err)
		}
		got = append(got, element)
	}
	return got
}
