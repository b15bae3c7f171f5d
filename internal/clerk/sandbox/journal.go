package sandbox

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
)

// ErrInUse says that another process uses the state file.
var ErrInUse = errors.New("in use by another process")

// journalVersion is the version of the records' format. The first record contains it.
const journalVersion = 1

// record is one fact, which is a line of the journal. Records say what happened and not what was
// requested, so replaying them does not depend on any setting.
type record struct {
	Op      op     `json:"op"`
	Version int    `json:"version,omitempty"`
	At      int64  `json:"at,omitempty"` // Unix nanoseconds
	N       int    `json:"n,omitempty"`  // the request's number, from 1
	Call    string `json:"call,omitempty"`
	Bucket  bucket `json:"bucket,omitempty"`
	Trace   string `json:"trace,omitempty"`
	Status  int    `json:"status,omitempty"`
	Fault   string `json:"fault,omitempty"`
	Free    bool   `json:"free,omitempty"` // does not count against a limit

	Invitations []*invitation `json:"invitations,omitempty"`
	Users       []*user       `json:"users,omitempty"`
	IDs         []string      `json:"ids,omitempty"`
}

type op string

// The kinds of records.
const (
	opBegin  op = "sandbox" // the first line of a journal
	opArrive op = "arrive"  // a request arrived
	opAnswer op = "answer"  // its answer is sent, or its connection is closed
	opInvite op = "invite"  // a call created invitations
	opSeed   op = "seed"    // users and invitations were added without a call
	opRevoke op = "revoke"
	opDelete op = "delete"
	opAccept op = "accept" // invitations were accepted, which made these users
)

// journal is the append-only file from which the state is rebuilt. Lines are buffered and written
// together before an answer is sent. What was written survives the end of the process. It may not
// survive a power failure, because the file is not synced.
type journal struct {
	file    *os.File // nil: memory only
	pending bytes.Buffer
	err     error // the first error; nothing is written after it
}

// openJournal opens or creates the file, locks it, and passes each of its records to apply.
func openJournal(path string, apply func(*record)) (*journal, error) {
	if path == "" {
		return &journal{}, nil
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open state: %w", err)
	}
	j := &journal{file: file}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = ErrInUse
		}
		return nil, errors.Join(fmt.Errorf("state file %s: %w", path, err), file.Close())
	}
	if err := j.replay(apply); err != nil {
		return nil, errors.Join(fmt.Errorf("state file %s: %w", path, err), file.Close())
	}
	return j, nil
}

// replay reads the records. It cuts off a last line that a crash left incomplete: the answer for it
// was never sent.
func (j *journal) replay(apply func(*record)) error {
	in := bufio.NewReaderSize(j.file, 1<<20)
	var good int64
	for number := 1; ; number++ {
		line, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("read: %w", err)
		}
		var r record
		if err := json.Unmarshal(line, &r); err != nil {
			if number == 1 {
				return errors.New("this is not a sandbox's state; name another file")
			}
			return fmt.Errorf("line %d is damaged: %w", number, err)
		}
		if (number == 1) != (r.Op == opBegin) || r.Version > journalVersion {
			return fmt.Errorf("line %d: not a sandbox's state, or one of a newer version", number)
		}
		apply(&r)
		good += int64(len(line))
	}
	if err := j.cut(good); err != nil {
		return err
	}
	if good == 0 {
		j.append(&record{Op: opBegin, Version: journalVersion})
		return j.flush()
	}
	return nil
}

// cut truncates the file after its last complete line. A file without a complete line is truncated
// only if it contains the beginning of a journal, so that no other file is emptied.
func (j *journal) cut(good int64) error {
	if good == 0 {
		head, err := io.ReadAll(io.NewSectionReader(j.file, 0, 64))
		if err != nil {
			return fmt.Errorf("read: %w", err)
		}
		begin, err := json.Marshal(&record{Op: opBegin, Version: journalVersion})
		if err != nil {
			return fmt.Errorf("encode: %w", err)
		}
		if !bytes.HasPrefix(begin, head) {
			return errors.New("this is not a sandbox's state; name another file")
		}
	}
	if err := j.file.Truncate(good); err != nil {
		return fmt.Errorf("cut a torn end: %w", err)
	}
	if _, err := j.file.Seek(good, io.SeekStart); err != nil {
		return fmt.Errorf("seek: %w", err)
	}
	return nil
}

func (j *journal) append(r *record) {
	if j.file == nil || j.err != nil {
		return
	}
	if err := json.NewEncoder(&j.pending).Encode(r); err != nil {
		j.err = fmt.Errorf("encode: %w", err)
	}
}

// flush writes the buffered lines. After a failure every later call fails too, because the state in
// memory is ahead of the file.
func (j *journal) flush() error {
	if j.err != nil || j.pending.Len() == 0 {
		return j.err
	}
	if _, err := j.pending.WriteTo(j.file); err != nil {
		j.err = fmt.Errorf("write state: %w", err)
	}
	return j.err
}

func (j *journal) close() error {
	if j.file == nil {
		return nil
	}
	err := j.flush()
	if j.err == nil {
		j.err = os.ErrClosed
	}
	return errors.Join(err, j.file.Close())
}
