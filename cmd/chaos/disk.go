package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"bulkinvite/internal/postgres"
	"bulkinvite/internal/rig"
)

// diskSize is the size of a run's disk in bytes: enough for a server with one database, a little
// WAL and some room.
const diskSize = 256 << 20

// mountDisk mounts a file system of diskSize below the site's directory. Only root may do this.
func (s *site) mountDisk() (string, error) {
	disk := filepath.Join(s.dir, "disk")
	if err := os.Mkdir(disk, 0o711); err != nil {
		return "", err
	}
	if err := mount(disk, diskSize); err != nil {
		return "", fmt.Errorf("mount a small disk: %w: %w", errNotHere, err)
	}
	s.after = func() error { return unmount(disk) }
	if err := os.Chown(disk, s.uid, s.gid); err != nil {
		return "", err
	}
	return disk, nil
}

// smallWAL makes the server reach the end of the room for its WAL soon.
var smallWAL = map[string]string{"fsync": "off", "min_wal_size": "32MB", "max_wal_size": "64MB"}

// onSmallDisk starts a server for this run on a small disk.
func (r *run) onSmallDisk() (string, error) {
	var err error
	if r.site, err = r.newSite(); err != nil {
		return "", err
	}
	disk, err := r.site.mountDisk()
	if err != nil {
		return "", err
	}
	var settings []string
	for name, value := range smallWAL {
		settings = append(settings, name+"="+value)
	}
	one, err := r.site.add(filepath.Join("disk", "postgres"), filepath.Join(r.Dir, "postgres.log"), settings...)
	if err != nil {
		return "", err
	}
	r.disk = disk
	r.again = one.start
	if err := errors.Join(one.initialise(), one.start(r.ctx)); err != nil {
		return "", err
	}
	return one.url(r.Name), r.fill(one)
}

// dataOnSmallDisk puts the program's data directory, which contains its private server, on a small
// disk.
func (r *run) dataOnSmallDisk() (string, error) {
	var err error
	if r.site, err = r.newSite(); err != nil {
		return "", err
	}
	if r.disk, err = r.site.mountDisk(); err != nil {
		return "", err
	}
	r.site.dataDir = r.disk
	r.again = r.startPrivate
	if err := r.startPrivate(r.ctx); err != nil {
		return "", err
	}
	unmount := r.site.after
	r.site.after = func() error { return errors.Join(r.private.Close(), unmount()) }
	_, err = rig.Call(r.ctx, r.Rig.Binary, rig.Environment(r.disk, "", rig.Key), "migrate")
	return r.private.URL(), err
}

// startPrivate starts the program's private server or joins it, as any command of the program
// would.
func (r *run) startPrivate(ctx context.Context) error {
	server, err := postgres.Start(ctx, postgres.Config{Dir: filepath.Join(r.disk, "postgres"), Settings: smallWAL})
	if err != nil {
		return err
	}
	if r.private != nil {
		err = r.private.Close() // the new share keeps the server running
	}
	r.private = server
	return err
}

// fillDisk fills the run's disk to the last byte for some time. In half of the runs it also makes
// PostgreSQL need room for WAL, which makes PostgreSQL panic. Then it frees the room and starts
// what has ended.
func (r *run) fillDisk() error {
	r.strike()
	r.watch.excuse(true)
	defer r.watch.excuse(false)
	ballast := filepath.Join(r.disk, "ballast")
	if err := fillUp(ballast); err != nil {
		return err
	}
	if r.dice.IntN(2) == 0 {
		for range 4 { // fails once the room is used up
			if _, err := r.Pool.Exec(r.ctx, `select pg_switch_wal()`); err != nil {
				break
			}
		}
	}
	if err := rig.Sleep(r.ctx, r.wait); err != nil {
		return err
	}
	if r.Pool.Ping(r.ctx) != nil {
		r.did["times PostgreSQL was down when the disk had room again"]++
	}
	if err := os.Remove(ballast); err != nil {
		return fmt.Errorf("free the disk: %w", err)
	}
	if err := r.ranOut(); err != nil {
		return err
	}
	return r.revive()
}

// ranOut checks that PostgreSQL or a worker reported that the disk is full.
func (r *run) ranOut() error {
	logs := []string{filepath.Join(r.disk, "postgres", "postgres.log")}
	for _, one := range r.site.servers {
		logs = append(logs, one.log)
	}
	for i := range workers {
		logs = append(logs, r.fleet.worker(i).Log)
	}
	for _, log := range logs {
		text, err := os.ReadFile(log)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if bytes.Contains(text, []byte("No space left on device")) || bytes.Contains(text, []byte("53100")) {
			return nil
		}
	}
	return errors.New("no log says that the disk was full")
}

// fillUp writes a file until the disk is full.
func fillUp(path string) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	chunk := make([]byte, 1<<20)
	for len(chunk) > 0 {
		n, err := file.Write(chunk)
		switch {
		case errors.Is(err, syscall.ENOSPC):
			chunk = chunk[:len(chunk)/2] // fill it to the last byte
		case err != nil && !errors.Is(err, io.ErrShortWrite):
			return errors.Join(fmt.Errorf("fill the disk: %w", err), file.Close())
		case n == 0:
			chunk = nil
		}
	}
	return file.Close()
}

// revive starts PostgreSQL again if it has ended, and returns when PostgreSQL answers.
func (r *run) revive() error {
	for {
		if err := r.Pool.Ping(r.ctx); err == nil {
			if n := r.fleet.quitted(); n > 0 {
				r.did["times a worker exited by itself"] += n
			}
			return nil
		}
		if len(r.site.servers) == 0 || !r.site.servers[0].lives() {
			// again joins a private server that runs, and waits for one that recovers.
			r.did["times PostgreSQL was started again, or waited for"]++
			if err := r.again(r.ctx); err != nil {
				return err
			}
		}
		if err := rig.Sleep(r.ctx, 200*time.Millisecond); err != nil {
			return err
		}
	}
}
