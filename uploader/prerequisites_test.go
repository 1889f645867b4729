package uploader

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"lifeboat/replica/blobstore"
	"lifeboat/replica/blobstore/blobstoretest"
	"lifeboat/uploader/api"
)

func TestPrerequisites(t *testing.T) {
	s := newSite(t)
	synctest.Test(t, func(t *testing.T) {
		s.t = t
		s.start()
		defer s.stop()
		if err := os.Mkdir(s.path("dir"), 0o700); err != nil {
			t.Fatal(err)
		}
		outside := filepath.Join(stateDir(t), "x.img")
		if err := os.WriteFile(outside, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			request api.ProtectRequest
			says    string
		}{
			{api.ProtectRequest{Name: ".web", Disks: []string{s.path("a.img")}}, "name of a VM"},
			{api.ProtectRequest{Name: strings.Repeat("w", 65), Disks: []string{s.path("a.img")}}, "name of a VM"},
			{api.ProtectRequest{Name: "a b", Disks: []string{s.path("a.img")}}, "name of a VM"},
			{api.ProtectRequest{Name: "web"}, "none"},
			{api.ProtectRequest{Name: "web", Disks: []string{"a.img"}}, "not absolute"},
			{api.ProtectRequest{Name: "web", Disks: []string{s.path("dir")}}, "directory"},
			{api.ProtectRequest{Name: "web", Disks: []string{s.path("none.img")}}, "no such file"},
			{api.ProtectRequest{Name: "web", Disks: []string{outside}}, "no running filter"},
			{api.ProtectRequest{Name: "web", Disks: []string{s.path("a.img"), s.path("dir/../a.img")}}, "twice"},
		} {
			_, err := s.service.Protect(t.Context(), c.request)
			e, ok := errors.AsType[*api.Error](err)
			if !ok || e.Code != api.CodePrerequisites || !strings.Contains(e.Message, c.says) || len(e.Checks) < 4 {
				t.Errorf("%+v: got %v, want it to say %q", c.request, err, c.says)
			}
		}
		if _, err := s.service.Protect(t.Context(), api.ProtectRequest{Name: "web", FrequencySeconds: 0.5}); api.CodeOf(err) != api.CodeInvalid {
			t.Errorf("frequency: %v", err)
		}
		if len(s.filter.vms) != 0 {
			t.Errorf("something was protected: %v", s.filter.vms)
		}
		s.protect()
		for _, again := range []api.ProtectRequest{
			{Name: "web", Disks: []string{s.path("b.img")}}, {Name: "web2", Disks: []string{s.path("a.img")}},
		} {
			if _, err := s.service.Protect(t.Context(), again); err == nil || !strings.Contains(err.Error(), "protected") {
				t.Errorf("%+v: got %v", again, err)
			}
		}
		s.store.Add(blobstoretest.Fault{Op: blobstoretest.Put, Err: blobstore.NewError("put", "", blobstore.ErrDenied, nil)})
		_, err := s.service.Protect(t.Context(), api.ProtectRequest{Name: "db", Disks: []string{s.path("b.img")}})
		if err == nil || !strings.Contains(err.Error(), "denied") {
			t.Errorf("a store that cannot be written: %v", err)
		}
		for _, name := range s.memory.names("probes/") {
			t.Errorf("left in the store: %s", name)
		}
	})
}
