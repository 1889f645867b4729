package uploader

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"lifeboat/replica"
	"lifeboat/tracker"
	"lifeboat/uploader/api"
)

// maxName bounds VM names, in characters.
const maxName = 64

// CheckName refuses what cannot be the name of a VM.
func CheckName(name string) error {
	ok := name != "" && len(name) <= maxName && name[0] != '.' && replica.CheckName(name) == nil
	for _, c := range []byte(name) {
		ok = ok && (c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '.' || c == '_' || c == '-')
	}
	if !ok {
		return &api.Error{
			Code: api.CodeInvalid, Message: fmt.Sprintf("%q cannot be the name of a VM", name),
			Hint: fmt.Sprintf("take 1 to %d of the characters A-Z a-z 0-9 . _ - and no dot at the beginning", maxName),
		}
	}
	return nil
}

// prerequisites is the outcome of all checks, and what they found.
type prerequisites struct {
	checks []api.Check
	filter Filter
	paths  []string // of the disks, relative to the folder
}

func (p *prerequisites) pass(item string) {
	p.checks = append(p.checks, api.Check{Item: item, OK: true})
}

func (p *prerequisites) fail(item, hint, format string, args ...any) {
	p.checks = append(p.checks, api.Check{Item: item, Message: fmt.Sprintf(format, args...), Hint: hint})
}

// judge notes the outcome of a check by its error.
func (p *prerequisites) judge(item string, err error) {
	if err == nil {
		p.pass(item)
		return
	}
	hint := ""
	if e, ok := errors.AsType[*api.Error](err); ok {
		hint = e.Hint
	}
	p.fail(item, hint, "%v", err)
}

// failed returns the error for the checks that failed, nil if none did.
func (p *prerequisites) failed() error {
	var failed []string
	hint := ""
	for _, c := range p.checks {
		if !c.OK {
			failed = append(failed, c.Item+": "+c.Message)
			if hint == "" {
				hint = c.Hint
			}
		}
	}
	if len(failed) == 0 {
		return nil
	}
	return &api.Error{
		Code: api.CodePrerequisites, Message: "prerequisites are not met: " + strings.Join(failed, "; "),
		Hint: hint, Checks: p.checks,
	}
}

// checkPrerequisites checks all that has to be true before a VM is protected.
// Nothing is created but, where there is none, the repository in the store.
func (s *Service) checkPrerequisites(ctx context.Context, request api.ProtectRequest) *prerequisites {
	p := &prerequisites{}
	p.judge("name "+request.Name, CheckName(request.Name))
	if len(request.Disks) == 0 {
		p.fail("disks", "name at least one", "there is none")
	}
	for _, path := range request.Disks {
		p.judge("disk "+path, s.checkDisk(ctx, p, path))
	}
	vms, err := s.allVMs(ctx)
	p.judge("filters answer", err)
	p.judge("not protected yet", p.checkFree(request.Name, vms))
	repository, err := s.open(ctx)
	if err == nil {
		err = probe(ctx, repository)
	}
	if err != nil {
		err = explain(ctx, err)
	}
	p.judge("store "+s.config.Store.String(), err)
	if err == nil {
		p.judge("name free in the store", s.checkNameInStore(ctx, repository, request.Name))
	}
	return p
}

// checkDisk finds the filter of a disk and its path in the folder.
func (s *Service) checkDisk(ctx context.Context, p *prerequisites, path string) error {
	if !filepath.IsAbs(path) {
		return &api.Error{Code: api.CodeInvalid, Message: "its path is not absolute", Hint: "give it as it is seen on the mount, from / on"}
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	info, err := os.Stat(real)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return &api.Error{Code: api.CodeInvalid, Message: fmt.Sprintf("it is no regular file but %s", kindOf(info.Mode())), Hint: "name the disk image itself"}
	}
	f, ok := s.filterOf(ctx, real)
	if !ok {
		return &api.Error{Code: api.CodeInvalid, Message: "no running filter is mounted over its folder", Hint: "mount one: lifeboat mount " + filepath.Dir(real)}
	}
	relative, _ := f.relative(real)
	if p.filter.Backend != nil && p.filter.Mountpoint != f.Mountpoint {
		return &api.Error{
			Code: api.CodeInvalid, Message: fmt.Sprintf("it lies on the filter at %s, other disks on that at %s", f.Mountpoint, p.filter.Mountpoint),
			Hint: "the disks of a VM have to be in one folder with one filter, to be cut at one instant",
		}
	}
	if slices.Contains(p.paths, relative) {
		return &api.Error{Code: api.CodeInvalid, Message: "it is named twice"}
	}
	p.filter, p.paths = f, append(p.paths, relative)
	return nil
}

func kindOf(mode os.FileMode) string {
	switch {
	case mode.IsDir():
		return "a directory"
	case mode&os.ModeDevice != 0:
		return "a device"
	}
	return "of the kind " + mode.Type().String()
}

// allVMs returns the VMs of all filters that answer.
func (s *Service) allVMs(ctx context.Context) (map[string][]tracker.VM, error) {
	filters, err := s.config.Filters.List(ctx)
	all := map[string][]tracker.VM{}
	for _, f := range filters {
		vms, vmsErr := f.VMs(ctx)
		err = errors.Join(err, vmsErr)
		all[f.Mountpoint] = vms
	}
	return all, err
}

// checkFree refuses a name, and disks, that are protected already.
func (p *prerequisites) checkFree(name string, vms map[string][]tracker.VM) error {
	for mountpoint, vms := range vms {
		for _, vm := range vms {
			if vm.Name == name {
				return &api.Error{Code: api.CodeExists, Message: fmt.Sprintf("a VM of the name %s is protected", name), Hint: "choose another name, or unprotect that VM"}
			}
			for _, d := range vm.Disks {
				if mountpoint == p.filter.Mountpoint && slices.Contains(p.paths, d.Path) {
					return &api.Error{Code: api.CodeExists, Message: fmt.Sprintf("disk %s is protected with VM %s", filepath.Join(mountpoint, d.Path), vm.Name), Hint: "unprotect that VM first"}
				}
			}
		}
	}
	return nil
}

// checkNameInStore refuses a name that a VM in the container has which is not
// disabled: it may be protected by another host.
func (s *Service) checkNameInStore(ctx context.Context, repository *replica.Repository, name string) error {
	vms, err := repository.VMs(ctx)
	if err != nil {
		return explain(ctx, err)
	}
	for _, vm := range vms {
		if vm.Name == name && vm.Disabled.IsZero() {
			return &api.Error{
				Code: api.CodeExists, Message: fmt.Sprintf("the store has a replica of that name, VM %s since %s", vm.ID, vm.Created.Format("2006-01-02 15:04")),
				Hint: "choose another name; if no host protects that VM any more, free its name with: lifeboat unprotect --force " + name,
			}
		}
	}
	return nil
}

// probe writes a blob and deletes it.
func probe(ctx context.Context, repository *replica.Repository) error {
	content := []byte("written to see whether the store can be written\n")
	name := "probes/" + replica.NewID()
	if err := repository.Store().Put(ctx, name, bytes.NewReader(content), int64(len(content))); err != nil {
		return err
	}
	return repository.Store().Delete(ctx, name)
}
