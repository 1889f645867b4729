package fusefs

import (
	"errors"
	"fmt"
	"log/slog"
	"path"
	"strings"

	"lifeboat/fusefs/handover"
)

// StateFolder is the name in the folder's root that the mount hides: Lifeboat
// keeps its change logs there.
const StateFolder = ".lifeboat"

// defaultReaders is how many request loops there are at most: see pace.
const defaultReaders = 8

// Options say what is served and how.
type Options struct {
	// Folder is the folder of disks. It may be covered by a dead mount of an
	// earlier filter, which is then taken away.
	Folder string
	// Logger gets what an operator should know; nil discards it.
	Logger *slog.Logger
	// Readers is how many request loops there are at most; 0 means the default.
	// How many of them take requests follows from the load.
	Readers int
	// Direct is what becomes of a guest's O_DIRECT; empty means DirectBuffered.
	Direct Direct
	// NoPassthrough serves every file here, whether it looks like a disk or
	// not.
	NoPassthrough bool
	// Excluded are patterns in the manner of path.Match for the names of files
	// that are never taken for disks, as long as they are not protected.
	Excluded []string
	// MakeRoom, unless nil, is called when the file system below is full, and
	// returns when it has given back what space it can; then the guest's
	// change is tried again, once. It may be called concurrently, with no
	// change under way on behalf of the caller.
	MakeRoom func()
	// LetGo, unless nil, is called before this process is killed so that another
	// filter takes over: no request is under way, and none begins. It returns
	// when nothing of the caller's is half done that the next filter would have
	// to give up. Rarely the process serves on after all.
	LetGo func()
	// Estate, unless nil, is what a keeper gave: the mount and what is known of
	// it. Then Folder and the argument of Mount do not count.
	Estate *handover.Estate
}

func (o *Options) validate() error {
	if o.Folder == "" && o.Estate == nil {
		return errors.New("fusefs: no folder given")
	}
	if o.Readers < 0 {
		return fmt.Errorf("fusefs: %d readers: at least one is needed", o.Readers)
	}
	for _, pattern := range o.Excluded {
		if _, err := path.Match(pattern, ""); err != nil {
			return fmt.Errorf("fusefs: pattern %q of excluded files: %w", pattern, err)
		}
		if strings.Contains(pattern, "/") {
			return fmt.Errorf("fusefs: pattern %q of excluded files: it is compared with names, so it cannot hold a slash", pattern)
		}
	}
	switch o.Direct {
	case "":
		o.Direct = DirectBuffered
	case DirectBuffered, DirectPass:
	default:
		return fmt.Errorf("fusefs: direct I/O %q: %s or %s", o.Direct, DirectPass, DirectBuffered)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.MakeRoom == nil {
		o.MakeRoom = func() {}
	}
	if o.LetGo == nil {
		o.LetGo = func() {}
	}
	if o.Readers == 0 {
		o.Readers = defaultReaders
	}
	return nil
}
