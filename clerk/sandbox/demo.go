package sandbox

// Demo is the sandbox that examples/hires.csv and examples/messy.csv are made
// for: two of their people are users and two have a pending invitation. The
// block list has one person of messy.csv, whose invitation is rejected.
func Demo() Config {
	return Config{
		Users: []string{
			"priya.raman@example.com",
			"lukas.brandt@example.com",
			"office@example.org",
		},
		Invitations: []string{
			"tomas.novak@example.com",
			"mei.tanaka@example.org",
			"former.candidate@example.org",
		},
		Blocked: []string{"contractor@example.org"},
	}
}
