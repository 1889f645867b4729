package fusefs

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const fuseDevicePath = "/dev/fuse"

// mountDevice mounts on path, and returns the descriptor that the kernel's
// requests come from.
func mountDevice(path string) (int, error) {
	if os.Geteuid() != 0 {
		return mountByHelper(path)
	}
	device, err := unix.Open(fuseDevicePath, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, explainDevice(err)
	}
	options := fmt.Sprintf("fd=%d,rootmode=%o,user_id=0,group_id=0,allow_other,default_permissions,max_read=%d",
		device, unix.S_IFDIR, maxTransfer)
	if err := unix.Mount(mountSource, path, mountType, unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		closeFD(device)
		return -1, explainMount(err)
	}
	return device, nil
}

func explainDevice(err error) error {
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return fmt.Errorf("open %s: %w: the kernel has no FUSE here: load the module fuse, or give the container the device", fuseDevicePath, err)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return fmt.Errorf("open %s: %w: run as root, or as a user who may use the device", fuseDevicePath, err)
	}
	return fmt.Errorf("open %s: %w", fuseDevicePath, err)
}

func explainMount(err error) error {
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("mount: %w: mounting takes CAP_SYS_ADMIN, which a container usually lacks", err)
	}
	return fmt.Errorf("mount: %w", err)
}

// mountByHelper mounts as a user who may not, by fusermount3, which sends the
// descriptor back over a socket that it finds by an environment variable.
func mountByHelper(path string) (int, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("make a socket for fusermount3: %w", err)
	}
	local, remote := pair[0], os.NewFile(uintptr(pair[1]), "socket to fusermount3")
	defer closeFD(local)
	options := fmt.Sprintf("fsname=%s,subtype=%s,default_permissions,max_read=%d", mountSource, mountSource, maxTransfer)
	err = runHelper(remote, "-o", options, "--", path)
	if closeErr := remote.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return -1, err
	}
	return receiveDescriptor(local)
}

func receiveDescriptor(socket int) (int, error) {
	var data [1]byte
	control := make([]byte, unix.CmsgSpace(4))
	_, size, _, _, err := unix.Recvmsg(socket, data[:], control, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("receive the descriptor from fusermount3: %w", err)
	}
	messages, err := unix.ParseSocketControlMessage(control[:size])
	if err != nil || len(messages) != 1 {
		return -1, errors.New("fusermount3 sent no descriptor")
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return -1, errors.New("fusermount3 sent no descriptor")
	}
	return fds[0], nil
}

// fusermount runs the helper that mounts and unmounts for users without rights.
func fusermount(arguments ...string) error { return runHelper(nil, arguments...) }

func runHelper(socket *os.File, arguments ...string) error {
	helper, err := exec.LookPath("fusermount3")
	if err != nil {
		return fmt.Errorf("mount without root's rights: %w: install the package fuse3, or run as root", err)
	}
	var stderr bytes.Buffer
	command := exec.Command(helper, arguments...)
	command.Stderr = &stderr
	if socket != nil {
		command.ExtraFiles = []*os.File{socket} // becomes descriptor 3
		command.Env = append(os.Environ(), "_FUSE_COMMFD=3")
	}
	if err := command.Run(); err != nil {
		message := strings.TrimSpace(stderr.String())
		if strings.Contains(strings.ToLower(message), "busy") {
			err = errors.Join(err, syscall.EBUSY)
		}
		return fmt.Errorf("fusermount3: %s: %w", message, err)
	}
	return nil
}
