#!/usr/bin/env bash
# What scenarios are made of. A scenario begins with
#
#   # What it shows.
#   # models: imx8mm imx8mp     which boards it is for; without this line, all
#   # trees: nxp upstream       whose U-Boots; without this line, NXP's
#   # main: imx8mm              on which boards CI runs it, of those (none: on none); without this line, on all
#   # kinds: virtual            if it needs what only virtual boards have
#   # seconds: 90               how long it may take, 180 without this line
#   set -euo pipefail
#   # shellcheck source=/dev/null
#   . "$HW_TESTS/guest/lib.sh"
#
# and runs in an empty folder of its own. $IMAGES has the images (make-images), $LOADER is a boot image for the board,
# $PORT where it is plugged in, $HW_LEFT a folder whose content is kept; its *.log files are shown if it fails.

IMAGES=$MAPFLASH_HW_WORK/images
PROGRAMS=$MAPFLASH_HW_WORK/programs
PORT=${BOARD_PORT:-1-1}
LOADER=${BOARD_LOADER:-$IMAGES/$BOARD_MODEL.bin}
# shellcheck disable=SC2034 # for scenarios
SECOND_LOADER=$IMAGES/$BOARD_MODEL-2.bin
STAGES=()
read -ra STAGES <<<"$BOARD_STAGES"
FASTBOOT=${STAGES[-1]}
emulator=

fail() {
  echo "$*"
  exit 1
}

# Scenarios that cannot run here say why and count as skipped; where everything must run, as failed.
skip() {
  echo "$*"
  touch "$HW_LEFT/skipped"
  exit 75
}

# The identifiers of what is at a port, as 1fc9:0134, or nothing.
id_at() {
  local device=/sys/bus/usb/devices/$1 vendor product
  # It may go while it is looked at.
  { read -r vendor <"$device/idVendor" && read -r product <"$device/idProduct" && echo "$vendor:$product"; } 2>/dev/null ||
    true
}

# wait_for SECONDS COMMAND…: until it succeeds.
wait_for() {
  local until=$((SECONDS + $1))
  shift
  until "$@"; do
    [ "$SECONDS" -lt "$until" ] || return 1
    sleep 0.05
  done
}

is_at() { [ "$(id_at "$1")" = "$2" ]; }

# await VVVV:PPPP [PORT]: until that is there; ten seconds.
await() {
  wait_for 10 is_at "${2:-$PORT}" "$1" || fail "$1 did not come to port ${2:-$PORT}; there is '$(id_at "${2:-$PORT}")'"
}

# Until the board is back, in whichever stage.
await_any() { wait_for 10 test -e "/sys/bus/usb/devices/$PORT/idProduct" || fail "nothing came to port $PORT"; }

# start_board [-s STAGE] [-k KEY=VALUE,…] [-- OPTION…]: the board, with old data on its eMMC, in its ROM or the stage
# given (uboot). Keys and options are virtual-imx's.
start_board() {
  local stage=rom keys='' OPTIND=1 option
  while getopts s:k: option; do
    case $option in
      s) stage=$OPTARG ;;
      k) keys=,$OPTARG ;;
      *) return 2 ;;
    esac
  done
  shift $((OPTIND - 1))
  if [ "$BOARD_KIND" = real ]; then
    bash -c "$BOARD_POWER_OFF"
    bash -c "$BOARD_POWER_ON"
    await "${STAGES[0]}"
    [ "$stage" = rom ] || to_fastboot
    return
  fi
  cp "$IMAGES/old-card" card
  start_boards "$BOARD_MODEL,tree=${BOARD_TREE:-nxp},port=$PORT,emmc=40M,file=$PWD/card,stage=$stage$keys" -- "$@"
  if [ "$stage" = uboot ]; then await "$FASTBOOT"; else await "${STAGES[0]}"; fi
}


# start_boards SPEC… [-- OPTION…]: virtual boards, as virtual-imx's --model has them.
start_boards() {
  local specs=()
  while [ $# -gt 0 ] && [ "$1" != -- ]; do
    specs+=(--model "$1")
    shift
  done
  [ $# -eq 0 ] || shift
  "$PROGRAMS/virtual-imx" "${specs[@]}" --vhci --dump-emmc "$PWD/dump" --log "$HW_LEFT/board.log" "$@" \
    >summary 2>"$HW_LEFT/virtual-imx.log" &
  emulator=$!
  trap stop_boards EXIT
  wait_for 5 grep -q '"event":"ready"' summary || fail "virtual-imx did not start"
}

stop_boards() {
  [ -n "$emulator" ] || return 0
  kill "$emulator" 2>/dev/null || true
  wait "$emulator" || true
  emulator=
  cp summary "$HW_LEFT/summary.log"
}
stop_board() { stop_boards; }

# summary KEY [PORT]: a number or word of what a board said at its end.
summary() {
  grep '"event":"summary"' summary | grep "\"port\":\"${2:-$PORT}\"" | sed "s/.*\"$1\":\"\\{0,1\\}\\([^\",}]*\\).*/\\1/"
}

# uuu, plain words in a log of its own. It hides the cursor and draws bars even where there is no terminal.
run_uuu() {
  local status=0
  uuu -v "$@" >uuu.out 2>&1 || status=$?
  tr '\r' '\n' <uuu.out | grep -v '%' >"$HW_LEFT/uuu.log" || true
  [ "$status" -eq 0 ] || fail "uuu ends with status $status"
}

# mapflash_may_end STATUS STATUS ARGUMENT…: this project's program; one of two exit statuses is right.
mapflash_may_end() {
  local one=$1 other=$2 status=0
  shift 2
  "$PROGRAMS/mapflash" "$@" >mapflash.out 2>mapflash.err || status=$?
  { echo "--- mapflash $*: $status" && cat mapflash.out mapflash.err; } >>"$HW_LEFT/mapflash.log"
  [ "$status" -eq "$one" ] || [ "$status" -eq "$other" ] || fail "mapflash $1 ends with status $status"
}

# run_mapflash ARGUMENT…: it succeeds.
run_mapflash() { mapflash_may_end 0 0 "$@"; }

# machine_without "hid udevd": what the machine does not have until the scenario ends.
machine_without() {
  case $1 in
    *hid*) modprobe -r hid-generic usbhid ;;
    *) modprobe -a usbhid hid-generic ;;
  esac
  case $1 in
    *udevd*) udevadm control --exit 2>/dev/null || true ;;
    *) pgrep -x systemd-udevd >/dev/null || /lib/systemd/systemd-udevd --daemon 2>/dev/null ;;
  esac
}

# record FILE: writes what goes over the bus to that file among what is left, until stop_recording.
record() {
  modprobe usbmon
  # The kernel keeps no more than five large transfers for it.
  chrt --fifo 10 "$HW_TESTS/guest/usbmon" "${PORT%%-*}" >"$HW_LEFT/$1" 2>usbmon.says &
  recorder=$!
  wait_for 10 grep -q listens usbmon.says || fail "usbmon: $(cat usbmon.says)"
}

stop_recording() {
  # What has just come goes through the kernel's buffer first.
  sleep 0.5
  kill "$recorder"
  wait "$recorder" || fail "the trace has gaps: $(cat usbmon.says)"
}

# For scripts of uuu 1.4, which does not know i.MX93.
cfg_line() { echo "CFG: SDPS: -chip MX93 -compatible MX815 -vid 0x1fc9 -pid 0x014e"; }

# SPSDK's programs, in $SPSDK: where CI installs it, or in the path.
need_spsdk() {
  SPSDK=${XDG_CACHE_HOME:-$HOME/.cache}/mapflash-ci/spsdk-3.12.0/bin
  [ -x "$SPSDK/sdphost" ] || SPSDK=$(dirname "$(command -v sdphost || echo /none/sdphost)")
  [ -x "$SPSDK/sdphost" ] || skip "SPSDK is not installed (PyPI: spsdk)"
}

# From the ROM to fastboot, by uuu.
to_fastboot() {
  ln -sf "$LOADER" loader.bin
  cat >boot.uuu <<END
uuu_version 1.4.0
$(cfg_line)
SDP: boot -f loader.bin
SDPS: boot -f loader.bin
SDPV: delay 100
SDPV: write -f loader.bin -skipspl
SDPV: jump
FB: done
END
  run_uuu boot.uuu
  await "$FASTBOOT"
}

# user_area_holds FILE [OFFSET]: the eMMC has those bytes, there. A virtual board's card is looked at; a real one is
# asked for a CRC-32, in pieces.
user_area_holds() {
  local at=${2:-0} size
  size=$(stat -c %s "$1")
  if [ "$BOARD_KIND" = virtual ]; then
    cmp --bytes="$size" --ignore-initial="$at:0" card "$1" || fail "the eMMC does not hold $1"
    return
  fi
  board_proves "$1" "$at" "$size"
}

# piece_of FILE OFFSET SIZE
piece_of() { dd if="$1" bs=1M iflag=skip_bytes,count_bytes skip="$2" count="$3" status=none; }

# board_proves FILE OFFSET SIZE: as a flashing tool would: mmc read, crc32 -v.
board_proves() {
  local at=$2 size=$3 done=0 piece=$((16 << 20)) crc line words
  while [ "$done" -lt "$size" ]; do
    [ $((size - done)) -ge "$piece" ] || piece=$((size - done))
    # gzip's last eight bytes are CRC-32 and length, least byte first.
    crc=$(piece_of "$1" "$done" "$piece" | gzip -1 | tail --bytes=8 | od -An -tx4 -N4 -v)
    # uuu would send quotes on to the board, so each word is one of its own.
    # shellcheck disable=SC2016 # the board's variable
    line=$(printf 'mmc dev %d 0; mmc read $loadaddr %x %x; crc32 -v $loadaddr %x %s' "$BOARD_MMC" \
      $(((at + done) / 512)) $(((piece + 511) / 512)) "$piece" "${crc// /}")
    read -ra words <<<"$line"
    run_uuu FB: ucmd "${words[@]}"
    done=$((done + piece))
  done
}

# Once the board is stopped: the loader is where the ROM looks for it in boot0, and the boot switch points there.
boots_from_boot0() {
  local offset=0
  [ "$BOARD_KIND" = virtual ] || return 0
  [ "$BOARD_MODEL" != imx8mm ] || offset=$((0x8400))
  cmp --bytes="$(stat -c %s "$1")" --ignore-initial="$offset:0" "dump/$PORT.boot0" "$1" || fail "boot0 does not hold $1"
  [ "$(summary partconf)" = 8 ] || fail "the boot switch is $(summary partconf), not 8 (boot0)"
  [ "$(summary bootable)" = true ] || fail "its ROM would not start it"
}
