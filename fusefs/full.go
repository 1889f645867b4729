package fusefs

import "golang.org/x/sys/unix"

// makingRoom tries change again, once, if the file system below was full and
// somebody may have given space back. Nothing is held meanwhile.
func (f *filter) makingRoom(change func() error) error {
	err := change()
	if err != unix.ENOSPC { //nolint:errorlint // system calls return it bare
		return err
	}
	f.options.MakeRoom()
	return change()
}
