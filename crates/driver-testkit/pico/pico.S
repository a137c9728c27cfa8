# pico: a guest that boots from a BIOS disk in well under a second and talks on COM1.
#
# 16-bit real mode, GNU as, Intel syntax, one flat section that is also the disk image.
# README.md says how to build it and what each command does.
#
# Sectors of the image:
#   0              boot sector: loads the program, or says that it cannot
#   1 .. 31        the program
#   32 .. 1023     scratch, for `write` and `read`; the first and the last carry a text
# The image has 512 KiB because SeaBIOS does not boot a disk of less than one cylinder
# (16 heads of 63 sectors, 504 KiB): "could not read the boot disk".
#
# Memory: 0x1000 variables (.bss); 0x7c00 the first 32 sectors, below them the stack;
#         0x20000 disk buffer (64 sectors).
#
# Conventions: DS = ES = SS = CS = 0. A routine says what it takes and gives;
# EAX, EDX and the flags are lost in any call, other registers only where it says so.

        .intel_syntax noprefix
        .code16

        .equ SECTOR,            512
        .equ SCRATCH_SECTOR,    32
        .equ IMAGE_SECTORS,     1024
        .equ LINE_LIMIT,        511     # longest line that is kept, in bytes

        .equ COM1,              0x3f8
        .equ UART_DATA,         COM1 + 0
        .equ UART_IRQ_ENABLE,   COM1 + 1
        .equ UART_FIFO,         COM1 + 2
        .equ UART_LINE,         COM1 + 3
        .equ UART_MODEM,        COM1 + 4
        .equ UART_STATUS,       COM1 + 5
        .equ IRQ_ON_RECEIVED,   0x01
        .equ IRQ_ON_SENT,       0x02
        .equ STATUS_RECEIVED,   0x01
        .equ STATUS_SENT,       0x20
        .equ STATUS_ABSENT,     0xff    # what a port without a device reads as

        .equ TIMER_DIVISOR,     59659   # 1193182 Hz / 59659 = 20 Hz
        .equ TICK_INTERRUPTS,   4       # `ticks`: a line every 0.2 s

        .equ POWER_BUTTON,      0x0100  # in PM1 status and PM1 enable
        .equ SLEEP_SOFT_OFF,    0x2000  # in PM1 control: S5 on QEMU's chipsets

        .equ PVPANIC,           0x505
        .equ PVPANIC_PANICKED,  0x01

        .equ DISK_BUFFER,       0x2000  # segment
        .equ DISK_BUFFER_SECTORS, 64

        .equ KEY_INTERRUPT,     0x03    # Ctrl-C
        .equ KEY_BACKSPACE,     0x08
        .equ KEY_LF,            0x0a
        .equ KEY_CR,            0x0d
        .equ KEY_DELETE,        0x7f

# say "text": writes the text on the console. say_line: and ends the line.
.macro say text
        call say_inline
        .asciz "\text"
.endm
.macro say_line text
        say "\text"
        call end_line
.endm

# --- Sector 0: the boot sector -------------------------------------------------------------

        .text
        .globl start
start:
        cli
        xor ax, ax
        mov ds, ax
        mov es, ax
        mov ss, ax
        mov sp, offset start
        cld
        ljmp 0, offset start_at_zero    # some BIOSes start at 0x07c0:0
start_at_zero:
        mov edi, offset variables       # zero .bss
        mov cx, offset variables_end
        sub cx, di
        rep stosb
        mov [boot_drive], dl
        sti
        call open_console

        mov word ptr [packet_count], SCRATCH_SECTOR - 1
        mov word ptr [packet_offset], offset program
        mov dword ptr [packet_sector], 1
        mov ah, 0x42
        call bios_disk
        jnc program
        mov byte ptr [powering_off], 1  # the program is not there: put_byte must not sleep
        say_line "pico: cannot read the boot disk"
        jmp halt

# Sets COM1 to 115200 8n1. What was received before is kept.
open_console:
        mov dx, UART_IRQ_ENABLE
        xor al, al
        out dx, al
        mov dx, UART_LINE
        mov al, 0x80                    # divisor latch
        out dx, al
        mov dx, UART_DATA
        mov al, 1                       # 115200 / 1
        out dx, al
        mov dx, UART_DATA + 1
        xor al, al
        out dx, al
        mov dx, UART_LINE
        mov al, 0x03                    # 8n1
        out dx, al
        mov dx, UART_FIFO
        mov al, 0x01                    # FIFOs on, interrupt at the first byte
        out dx, al
        mov dx, UART_MODEM
        mov al, 0x0b                    # DTR, RTS, interrupt to the PIC
        out dx, al
        ret

# Writes the string that stands behind the call, and returns behind the string.
say_inline:
        pop ax
        push si
        mov si, ax
        call say_string
        mov ax, si
        pop si
        jmp ax

# Writes the string at SI. Gives: SI behind its zero.
say_string:
        lodsb
        test al, al
        jz 1f
        call put_byte
        jmp say_string
1:      ret

end_line:
        mov al, KEY_CR
        call put_byte
        mov al, KEY_LF
# Falls through.

# Writes AL on the console. While the host does not read, it sleeps, and still obeys the
# power button; once powering off it drops the byte instead of waiting.
put_byte:
        push ax
1:      mov dx, UART_STATUS
        in al, dx
        test al, STATUS_SENT
        jnz 2f
        cmp byte ptr [powering_off], 0
        jne 3f
        mov al, IRQ_ON_SENT
        call sleep
        jmp 1b
2:      pop ax
        mov dx, UART_DATA
        out dx, al
        ret
3:      pop ax
        ret

# Sleeps until the UART interrupt AL or the timer, whichever is first; then polls the power button.
# The UART holds its interrupt until it is served: one that came before the HLT ends it at once.
sleep:
        cli
        mov dx, UART_IRQ_ENABLE
        out dx, al
        sti                             # takes effect behind the next instruction
        hlt
        jmp poll_power_button

# Calls the BIOS disk service AH (0x42 read, 0x43 write) with `packet` on the boot drive.
# Gives: carry set and AH = BIOS status when it failed.
bios_disk:
        pushad
        mov byte ptr [packet_size], 16
        mov dl, [boot_drive]
        mov si, offset packet
        xor al, al
        int 0x13
        mov [bios_status], ah
        popad
        mov ah, [bios_status]
        ret

# Stops for good: no interrupt ends it, only a reset.
halt:
        cli
        hlt
        jmp halt

        .org 510
        .byte 0x55, 0xaa

# --- Sectors 1 .. 31: the program ----------------------------------------------------------

program:
        call find_power_registers
        call make_crc_table
        call take_interrupts
        mov dx, [power_base]
        test dx, dx
        jz 1f
        mov ax, POWER_BUTTON
        out dx, ax                      # status: forget an old press
        add dx, 2
        out dx, ax                      # enable: QEMU reports presses from now on
1:
        call end_line
        say_line "pico guest 1"

log_in:
        say "login: "
        mov byte ptr [echo], 1
        call read_line
        cmp byte ptr [line], 0
        je log_in
        say "Password: "
        mov byte ptr [echo], 0
        call read_line
        mov byte ptr [echo], 1

prompt:
        mov sp, offset start            # `logout` and Ctrl-C come here from any depth
        say "pico# "
        call read_line
        mov si, offset line
        call skip_spaces
        cmp byte ptr [si], 0
        je prompt
        call run_command
        jmp prompt

# --- Commands ------------------------------------------------------------------------------
# A command takes SI = its arguments, without leading spaces, and may lose any register.

.macro command name, routine
        .asciz "\name"
        .word \routine
.endm

commands:
        command "cpus",         cmd_cpus
        command "digest",       cmd_digest
        command "disk",         cmd_disk
        command "echo",         cmd_echo
        command "flood",        cmd_flood
        command "hang",         cmd_hang
        command "help",         cmd_help
        command "ignore",       cmd_ignore
        command "logout",       cmd_logout
        command "mem",          cmd_mem
        command "panic",        cmd_panic
        command "poweroff",     cmd_poweroff
        command "read",         cmd_read
        command "reboot",       cmd_reboot
        command "ticks",        cmd_ticks
        command "write",        cmd_write
        .byte 0

# Runs the command line at SI.
run_command:
        mov bx, offset commands
1:      cmp byte ptr [bx], 0
        je 5f
        mov di, si
2:      mov al, [bx]                    # compare the name at BX with the word at DI
        test al, al
        jz 3f
        cmp al, [di]
        jne 4f
        inc bx
        inc di
        jmp 2b
3:      cmp byte ptr [di], ' '          # the whole name matched: the word must end here too
        ja 4f
        mov si, di
        call skip_spaces
        jmp word ptr [bx + 1]
4:      cmp byte ptr [bx], 0            # to the next entry
        lea bx, [bx + 1]
        jne 4b
        add bx, 2
        jmp 1b
5:      say "unknown command: "
        mov di, si                      # cut the line behind its first word
6:      inc di
        cmp byte ptr [di], ' '
        ja 6b
        mov byte ptr [di], 0
        call say_string
        jmp end_line

cmd_help:
        say_line "cpus            number of processors"
        say_line "digest N        CRC-32 of the disk's first N sectors"
        say_line "disk            size of the disk"
        say_line "echo TEXT       writes TEXT"
        say_line "flood N         writes N numbered lines of 64 characters"
        say_line "hang            stops; only a reset helps"
        say_line "help            this list"
        say_line "ignore          ignores the power button from now on"
        say_line "logout          back to the login"
        say_line "mem             size of the memory"
        say_line "panic           crashes: pvpanic, or else a triple fault"
        say_line "poweroff        powers off (ACPI)"
        say_line "read N          the text in sector N"
        say_line "reboot          resets the machine"
        say_line "ticks           a line every 0.2 s until a key is pressed"
        say_line "write N TEXT    writes TEXT to sector N"
        ret

cmd_echo:
        call say_string
        jmp end_line

cmd_logout:
        mov sp, offset start
        jmp log_in

cmd_hang:
        say_line "hanging"
        jmp halt

cmd_ignore:
        mov dx, [power_base]
        test dx, dx
        jz 1f
        add dx, 2
        xor ax, ax
        out dx, ax
1:      say_line "power button ignored"
        ret

cmd_poweroff:
        jmp power_off

cmd_reboot:
        say_line "rebooting"
        mov dx, 0xcf9                   # reset control of both chipsets
        mov al, 0x02
        out dx, al
        mov al, 0x06
        out dx, al
        mov al, 0xfe                    # else the keyboard controller
        out 0x64, al
        jmp triple_fault

cmd_panic:
        say_line "panic: as asked"
        mov dx, PVPANIC
        in al, dx                       # the events it knows
        cmp al, 0xff
        je triple_fault
        mov al, PVPANIC_PANICKED
        out dx, al
        jmp halt

triple_fault:
        lidt [no_interrupts]
        int3
        jmp halt
no_interrupts:
        .word 0
        .long 0

cmd_cpus:
        say "cpus "
        mov al, 0x5f                    # QEMU's CMOS: processors besides the first
        out 0x70, al
        in al, 0x71
        movzx eax, al
        inc eax
        call say_decimal
        jmp end_line

# The sum of the usable ranges of the E820 map, rounded up to MiB: the firmware keeps less than
# one for itself, so that it is the size that the machine was given.
cmd_mem:
        mov dword ptr [total], 0
        mov dword ptr [total + 4], 0
        xor ebx, ebx
1:      mov eax, 0xe820
        mov edx, 0x534d4150             # "SMAP"
        mov ecx, 20
        mov di, offset memory_range
        int 0x15
        jc 2f
        cmp eax, 0x534d4150
        jne 2f
        cmp dword ptr [memory_range + 16], 1
        jne 3f
        mov eax, [memory_range + 8]
        add [total], eax
        mov eax, [memory_range + 12]
        adc [total + 4], eax
3:      test ebx, ebx
        jnz 1b
2:      add dword ptr [total], 0xfffff
        adc dword ptr [total + 4], 0
        mov eax, [total]
        mov edx, [total + 4]
        shrd eax, edx, 20
        push eax
        say "mem "
        pop eax
        call say_decimal
        say_line " MiB"
        ret

cmd_ticks:
        xor ebx, ebx
1:      inc ebx
        say "tick "
        mov eax, ebx
        call say_decimal
        call end_line
        mov di, [interrupts]
2:      call poll_byte
        jnz 3f
        mov al, IRQ_ON_RECEIVED
        call sleep
        mov ax, [interrupts]
        sub ax, di
        cmp ax, TICK_INTERRUPTS
        jb 2b
        jmp 1b
3:      ret

# Lines are the number in 10 digits, a space, and a fixed text that fills it to 64 characters.
cmd_flood:
        call take_number
        jc 3f
        mov ecx, eax
        xor ebx, ebx
1:      cmp ebx, ecx
        je 2f
        inc ebx
        mov eax, ebx
        mov di, 10
        call say_decimal_padded
        say_line " abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ/"
        call poll_power_button
        jmp 1b
2:      ret
3:      say_line "usage: flood N"
        ret

cmd_disk:
        call disk_size
        push eax
        say "disk "
        pop eax
        call say_decimal
        say_line " sectors"
        ret

cmd_digest:
        call take_number
        jc 9f
        mov ebx, eax                    # EBX = sectors left
        call disk_size
        cmp ebx, eax
        ja beyond_disk
        xor ecx, ecx                    # ECX = next sector
        mov ebp, -1                     # EBP = checksum
1:      test ebx, ebx
        jz 4f
        call poll_power_button
        mov eax, DISK_BUFFER_SECTORS
        cmp ebx, eax
        jae 2f
        mov eax, ebx
2:      mov dx, ax
        call read_sectors
        jc disk_failed
        movzx edx, dx
        add ecx, edx
        sub ebx, edx
        push ebx
        push ecx
        shl dx, 9                       # bytes
        mov cx, dx
        xor si, si
        mov ax, DISK_BUFFER
        mov fs, ax
3:      movzx ebx, byte ptr fs:[si]
        mov eax, ebp
        xor bl, al
        shr eax, 8
        xor eax, [crc_table + ebx * 4]
        mov ebp, eax
        inc si
        dec cx
        jnz 3b
        pop ecx
        pop ebx
        jmp 1b
4:      say "crc32 "
        mov eax, ebp
        not eax
        mov cl, 8
        call say_hex
        jmp end_line
9:      say_line "usage: digest N"
        ret

cmd_read:
        call take_number
        jc 9f
        mov ecx, eax                    # ECX = sector
        call disk_size
        cmp ecx, eax
        jae beyond_disk
        mov ax, 1
        call read_sectors
        jc disk_failed
        say "sector "
        mov eax, ecx
        call say_decimal
        say ": "
        mov ax, DISK_BUFFER
        mov fs, ax
        xor si, si
1:      mov al, fs:[si]
        test al, al
        jz 3f
        cmp al, ' '
        jae 2f
        mov al, '.'
2:      call put_byte
        inc si
        cmp si, SECTOR
        jb 1b
3:      jmp end_line
9:      say_line "usage: read N"
        ret

cmd_write:
        call take_number
        jc 9f
        mov ecx, eax                    # ECX = sector
        cmp ecx, SCRATCH_SECTOR
        jb 8f
        call disk_size
        cmp ecx, eax
        jae beyond_disk
        mov ax, DISK_BUFFER
        mov es, ax
        xor di, di
1:      lodsb
        test al, al
        jnz 2f
        dec si                          # stay on the zero: the rest is filled with it
2:      stosb
        cmp di, SECTOR
        jb 1b
        xor ax, ax
        mov es, ax
        mov ax, 1
        call write_sectors
        jc disk_failed
        say "wrote sector "
        mov eax, ecx
        call say_decimal
        jmp end_line
8:      say "error: sectors below "
        mov eax, SCRATCH_SECTOR
        call say_decimal
        say_line " hold the guest itself"
        ret
9:      say_line "usage: write N TEXT"
        ret

# Ends a command: a sector that the disk does not have was asked for. Takes EAX = disk size.
beyond_disk:
        push eax
        say "error: the disk has "
        pop eax
        call say_decimal
        say_line " sectors"
        ret

# Ends a command: the BIOS could not read or write. Takes ECX = first sector.
disk_failed:
        say "error: sector "
        mov eax, ecx
        call say_decimal
        say ": BIOS status "
        movzx eax, byte ptr [bios_status]
        mov cl, 2
        call say_hex
        jmp end_line

# --- Power ---------------------------------------------------------------------------------

# Sets `power_base` to the ACPI PM1 registers: status +0, enable +2, control +4.
# SeaBIOS has placed them; the chipset says where.
find_power_registers:
        mov eax, 0x8000f800             # q35: 00:1f.0, ICH9 LPC
        call read_pci
        cmp eax, 0x29188086
        jne 1f
        mov eax, 0x8000f840
        call read_pci
        and ax, 0xff80
        jmp 2f
1:      mov eax, 0x80000b00             # pc: 00:01.3, PIIX4 power management
        call read_pci
        cmp eax, 0x71138086
        jne 3f
        mov eax, 0x80000b40
        call read_pci
        and ax, 0xffc0
2:      mov [power_base], ax
3:      ret

# Gives: EAX = the PCI configuration register at address EAX.
read_pci:
        mov dx, 0xcf8
        out dx, eax
        mov dx, 0xcfc
        in eax, dx
        ret

# Powers off when the power button was pressed since the start.
poll_power_button:
        mov dx, [power_base]
        test dx, dx
        jz 1f
        cmp byte ptr [powering_off], 0
        jne 1f
        in ax, dx
        test ax, POWER_BUTTON
        jz 1f
        mov byte ptr [powering_off], 1
        call end_line
        say_line "power button"
        jmp power_off
1:      ret

power_off:
        say_line "power off"
        mov dx, [power_base]
        test dx, dx
        jz 1f
        add dx, 4
        mov ax, SLEEP_SOFT_OFF
        out dx, ax
        jmp halt
1:      say_line "error: no ACPI registers found, halted"
        jmp halt

# --- Interrupts ----------------------------------------------------------------------------

# The timer (IRQ 0) and COM1 (IRQ 4) end a HLT. The BIOS's timer routine is replaced, not
# chained: with QEMU's -nographic it takes bytes from COM1.
take_interrupts:
        cli
        mov word ptr [0x08 * 4], offset on_timer
        mov word ptr [0x08 * 4 + 2], 0
        mov word ptr [0x0c * 4], offset on_uart
        mov word ptr [0x0c * 4 + 2], 0
        mov al, 0x34                    # channel 0, rate generator
        out 0x43, al
        mov al, TIMER_DIVISOR & 0xff
        out 0x40, al
        mov al, TIMER_DIVISOR >> 8
        out 0x40, al
        in al, 0x21
        and al, 0xee                    # unmask IRQ 0 and IRQ 4
        out 0x21, al
        sti
        ret

on_timer:
        push ax
        inc word ptr cs:[interrupts]
        mov al, 0x20
        out 0x20, al
        pop ax
        iret

# Only wakes: the bytes stay in the UART, where QEMU's flow control counts them.
on_uart:
        push ax
        push dx
        mov dx, UART_IRQ_ENABLE
        xor al, al
        out dx, al
        mov al, 0x20
        out 0x20, al
        pop dx
        pop ax
        iret

# --- Console input -------------------------------------------------------------------------

# Gives: zero flag set when nothing was received, else AL = the byte.
# The LF of a CR LF is not a byte.
poll_byte:
        mov dx, UART_STATUS
        in al, dx
        cmp al, STATUS_ABSENT
        je 2f
        test al, STATUS_RECEIVED
        jz 2f
        mov dx, UART_DATA
        in al, dx
        mov dl, [last_byte]
        mov [last_byte], al
        cmp dl, KEY_CR
        jne 1f
        cmp al, KEY_LF
        je poll_byte
1:      or dl, 1                        # clears the zero flag
        ret
2:      xor al, al
        ret

# Reads a line into `line`, ended by a zero, and writes back what is typed if `echo` is set.
# Ctrl-C drops it and starts again at the prompt (at the login: at the login). Loses BX.
read_line:
        xor bx, bx                      # BX = bytes so far
1:      call poll_byte
        jnz 2f
        mov al, IRQ_ON_RECEIVED
        call sleep
        jmp 1b
2:      cmp al, KEY_CR
        je 7f
        cmp al, KEY_LF
        je 7f
        cmp al, KEY_INTERRUPT
        je 6f
        cmp al, KEY_BACKSPACE
        je 4f
        cmp al, KEY_DELETE
        je 4f
        cmp al, ' '
        jb 1b
        cmp bx, LINE_LIMIT
        jae 3f
        mov [line + bx], al
        inc bx
        cmp byte ptr [echo], 0
        je 1b
        call put_byte
        jmp 1b
3:      mov al, 0x07                    # bell: the line is full
        call put_byte
        jmp 1b
4:      test bx, bx
        jz 1b
        dec bx
        cmp byte ptr [echo], 0
        je 1b
        say "\b \b"
        jmp 1b
6:      say_line "^C"
        xor bx, bx
        mov byte ptr [line], 0
        ret
7:      mov byte ptr [line + bx], 0
        jmp end_line

# --- Text ----------------------------------------------------------------------------------

# Gives: SI behind the spaces at SI.
skip_spaces:
        cmp byte ptr [si], ' '
        jne 1f
        inc si
        jmp skip_spaces
1:      ret

# Takes a decimal number of 32 bits and the one space behind it off SI.
# Gives: EAX = the number, SI behind it; carry set when there is none. Loses ECX.
take_number:
        xor eax, eax
        cmp byte ptr [si], '0'
        jb 3f
1:      movzx ecx, byte ptr [si]
        cmp cl, ' '
        je 2f
        test cl, cl
        jz 4f
        sub cl, '0'
        cmp cl, 9
        ja 3f
        mov edx, 10
        mul edx
        jc 3f
        add eax, ecx
        jc 3f
        inc si
        jmp 1b
2:      inc si
4:      clc
        ret
3:      stc
        ret

# Writes EAX in decimal; say_decimal_padded: with zeros in front, to DI digits. Loses DI.
say_decimal:
        mov di, 1
say_decimal_padded:
        push ebx
        push cx
        mov ebx, 10
        xor cx, cx
1:      xor edx, edx
        div ebx
        push dx
        inc cx
        test eax, eax
        jnz 1b
        cmp cx, di
        jb 1b
2:      pop ax
        add al, '0'
        call put_byte
        loop 2b
        pop cx
        pop ebx
        ret

# Writes the lowest CL hexadecimal digits of EAX, in lower case. Loses CL, EBX.
say_hex:
        mov ebx, eax
        mov ch, cl
        neg cl
        add cl, 8
        shl cl, 2
        shl ebx, cl                     # the first digit to the top
1:      rol ebx, 4
        mov al, bl
        and al, 0x0f
        cmp al, 10
        jb 2f
        add al, 'a' - '0' - 10
2:      add al, '0'
        call put_byte
        dec ch
        jnz 1b
        ret

# --- Disk ----------------------------------------------------------------------------------

# Gives: EAX = sectors of the boot drive, at most 2^32 - 1; 0 when the BIOS does not know.
disk_size:
        push si
        mov word ptr [drive_parameters], 26
        mov ah, 0x48
        mov dl, [boot_drive]
        mov si, offset drive_parameters
        int 0x13
        pop si
        mov eax, 0
        jc 1f
        mov eax, [drive_parameters + 16]
        cmp dword ptr [drive_parameters + 20], 0
        je 1f
        mov eax, -1
1:      ret

# Reads or writes AX sectors from sector ECX, to or from the disk buffer.
# Gives: carry set when it failed. Keeps DX.
read_sectors:
        mov byte ptr [disk_service], 0x42
        jmp 1f
write_sectors:
        mov byte ptr [disk_service], 0x43
1:      mov [packet_count], ax
        mov word ptr [packet_offset], 0
        mov word ptr [packet_segment], DISK_BUFFER
        mov [packet_sector], ecx
        mov ah, [disk_service]
        jmp bios_disk

# The table of CRC-32 (IEEE 802.3, reflected, polynomial 0xedb88320).
make_crc_table:
        xor ebx, ebx
1:      mov eax, ebx
        mov cx, 8
2:      shr eax, 1
        jnc 3f
        xor eax, 0xedb88320
3:      loop 2b
        mov [crc_table + ebx * 4], eax
        inc bl
        jnz 1b
        ret

# --- Sectors 32 .. 1023: scratch -------------------------------------------------------------

        .org SCRATCH_SECTOR * SECTOR    # an error here: the program has outgrown its sectors
        .asciz "as shipped"
        .org (IMAGE_SECTORS - 1) * SECTOR
        .asciz "last sector as shipped"
        .org IMAGE_SECTORS * SECTOR

# --- Variables -----------------------------------------------------------------------------

        .bss
variables:
packet:                                 # of the BIOS disk services
packet_size:            .skip 2
packet_count:           .skip 2
packet_offset:          .skip 2
packet_segment:         .skip 2
packet_sector:          .skip 8
drive_parameters:       .skip 32
memory_range:           .skip 24
total:                  .skip 8
interrupts:             .skip 2         # of the timer, modulo 2^16
power_base:             .skip 2         # 0: no ACPI registers found
boot_drive:             .skip 1
bios_status:            .skip 1
disk_service:           .skip 1
powering_off:           .skip 1
echo:                   .skip 1
last_byte:              .skip 1
line:                   .skip LINE_LIMIT + 1
crc_table:              .skip 256 * 4
variables_end:

        .section .note.GNU-stack, "", @progbits
