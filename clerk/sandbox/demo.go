package sandbox

// Demo is the stand-in that examples/hires.csv meets every outcome in but
// failed and cancelled: two of its people are users, two have a pending
// invitation, and one is on the block list.
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
