package integration

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"lifeboat/replica/blobstore/blobstoretest/azurite"
)

const (
	exitAway   = 5
	exitDenied = 6
)

// A store that refuses for good is told at once, by everything that opens it.
func TestStoreRefuses(t *testing.T) {
	t.Parallel()
	server := azurite.Start(t)
	s := newSite(t)
	newQuietVM(t, s)
	s.sidecar.stop(t)

	restore := func(store string) []string {
		return []string{"restore", vm, "--to", filepath.Join(s.dir, "restored"), "--store", store}
	}
	upload := func(store string) []string { return []string{"upload", "--store", store} }
	none := "file://" + filepath.Join(s.dir, "none")
	s.refused(t, []refusal{
		{upload(none), exitDenied, []string{"none"}},
		{restore(none), exitDenied, []string{"none"}},
		{append(upload("file://"+readOnly(t, s)), "--create"), exitDenied, []string{"read-only"}},
	})
	key := "AZURE_STORAGE_KEY=" + strings.Repeat("d3Jvbmc=", 1)
	env := s.env
	s.env = append(env, "AZURE_STORAGE_ACCOUNT="+azurite.Account, key)
	s.refused(t, []refusal{
		{append(upload(server.URL("vms")), "--create"), exitDenied, []string{"Authorization"}},
		{restore(server.URL("vms")), exitDenied, []string{"Authorization"}},
	})
	s.env = append(env, server.Environ()...)
	s.refused(t, []refusal{
		{upload(server.URL("none")), exitDenied, []string{"none", "--create"}},
		{restore(server.URL("none")), exitDenied, []string{"none"}},
	})
	s.env = env
	// The one that was there before goes on.
	s.upload(t, "--frequency", "15m")
	s.cut(t, true)
}

// readOnly mounts a file system that cannot be written.
func readOnly(t *testing.T, s *site) string {
	t.Helper()
	dir := filepath.Join(s.dir, "readonly")
	must(t, os.Mkdir(dir, 0o700))
	must(t, unix.Mount("tmpfs", dir, "tmpfs", unix.MS_RDONLY, "size=1m"))
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return dir
}

// A store that cannot be reached does not keep the sidecar from starting, and
// nothing is protected to it.
func TestStoreUnreachable(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.makeDisk(t, "a.img", 1<<20)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	s.store = fmt.Sprintf("http://%s/%s/vms", closed.Addr(), azurite.Account)
	must(t, closed.Close())
	s.env = append(s.env, "AZURE_STORAGE_ACCOUNT="+azurite.Account, "AZURE_STORAGE_KEY="+azurite.Key)
	s.mount(t)
	s.upload(t)
	s.refused(t, []refusal{
		{[]string{"protect", vm, s.disk("a.img")}, 4, []string{"refused"}},
		{[]string{"restore", vm, "--to", filepath.Join(s.dir, "restored")}, exitAway, []string{"refused"}},
		{[]string{"points", vm, "--store", s.store}, exitAway, []string{"refused"}},
	})
	var status struct {
		VMs []struct{} `json:"vms"`
	}
	s.ok(t, &status, "status")
	if len(status.VMs) != 0 {
		t.Errorf("something is protected: %v", status)
	}
}

// While the store is away, the guest goes on and health tells it; when it is
// back, replication goes on where it was.
func TestStoreAway(t *testing.T) {
	t.Parallel()
	rng := randomness(t)
	server := azurite.Start(t)
	var port int
	_, err := fmt.Sscanf(server.Endpoint, "http://127.0.0.1:%d/", &port)
	must(t, err)
	w := newWire(t, fmt.Sprintf("127.0.0.1:%d", port))
	s := newSite(t)
	s.store = strings.Replace(server.URL("vms"), fmt.Sprintf(":%d/", port), ":"+w.port()+"/", 1)
	s.env = append(s.env, server.Environ()...)
	o := newVM(t, s, newGuest(t, rng, slowPace), "--frequency", "15m")
	o.cut(t, true)

	w.cut(t)
	o.cut(t, false)
	o.guest.do(t, 50)
	eventually(t, "health tells that the store is away", func() bool { return s.status(t).says("store-unavailable") })
	o.cut(t, false)
	o.guest.do(t, 50)

	w.mend(t)
	o.cut(t, true)
	eventually(t, "health is normal again", func() bool { return s.status(t).Health == "Normal" })
	o.guest.end(t)
	if compared := o.judge(t); compared < 4 {
		t.Errorf("only %d recovery points were compared", compared)
	}
}

// says tells whether the health has a reason of that code.
func (s vmStatus) says(code string) bool {
	for _, r := range s.Reasons {
		if r.Code == code {
			return true
		}
	}
	return false
}
