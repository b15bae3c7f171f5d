# syntax=docker/dockerfile:1

FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
# Includes .git: the toolchain reads version and commit from it, and `bulkinvite version` shows
# them.
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o /out/bulkinvite ./cmd/bulkinvite
RUN mkdir /out/data

# Contains CA certificates, time zones and an unprivileged user, but no shell.
FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build /out/bulkinvite /bulkinvite
# A volume that is mounted here gets the owner of this directory.
COPY --from=build --chown=nonroot:nonroot /out/data /var/lib/bulkinvite
ENV BULKINVITE_DATA_DIR=/var/lib/bulkinvite
ENTRYPOINT ["/bulkinvite"]
