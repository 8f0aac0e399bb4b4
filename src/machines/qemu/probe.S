# What probe.ts runs to find out whether an accelerator really runs guests. One boot sector of 512 bytes:
#   as --64 probe.S -o probe.o && ld -Ttext 0x7c00 --oformat binary probe.o -o probe.bin && xxd -p probe.bin
# It does what a kernel does first (protected mode, paging, EFER, long mode, cpuid, page writes) and then spins 200 million
# times: 0.1 s on a real processor, minutes where a nested hypervisor interprets guest instructions one by one.
# Stages report a letter each on the first serial port: R(eal) P(rotected) L(ong) M(emory) D(one).
.code16
.globl _start
_start:
  cli
  ljmp $0,$1f
1: xor %ax,%ax
  mov %ax,%ds
  mov %ax,%es
  mov %ax,%ss
  mov $0x7c00,%sp
  mov $0x3f8,%dx
  mov $'R',%al
  out %al,%dx
  # open the A20 gate
  in $0x92,%al
  or $2,%al
  out %al,$0x92
  lgdt gdtr
  mov %cr0,%eax
  or $1,%eax
  mov %eax,%cr0
  ljmp $8,$pm
.code32
pm:
  mov $16,%eax
  mov %eax,%ds
  mov %eax,%es
  mov %eax,%ss
  mov $0x3f8,%edx
  mov $'P',%al
  out %al,%dx
  # page tables at 0x10000: identity 1GiB with 2MiB pages
  mov $0x10000,%edi
  xor %eax,%eax
  mov $0x3000/4,%ecx
  rep stosl
  movl $0x11003,0x10000
  movl $0x12003,0x11000
  mov $0x12000,%edi
  mov $0x83,%eax
  mov $512,%ecx
2: mov %eax,(%edi)
  add $8,%edi
  add $0x200000,%eax
  loop 2b
  mov $0x20,%eax
  mov %eax,%cr4
  mov $0x10000,%eax
  mov %eax,%cr3
  mov $0xc0000080,%ecx
  rdmsr
  or $0x100,%eax
  wrmsr
  mov %cr0,%eax
  or $0x80000000,%eax
  mov %eax,%cr0
  ljmp $24,$lm
.code64
lm:
  mov $0x3f8,%edx
  mov $'L',%al
  out %al,%dx
  mov $1,%eax
  cpuid
  # write to 4096 pages from 16 MiB on
  mov $0x1000000,%rdi
  mov $4096,%ecx
3: mov %rdi,(%rdi)
  add $4096,%rdi
  loop 3b
  mov $0x3f8,%edx
  mov $'M',%al
  out %al,%dx
  mov $200000000,%ecx
5: dec %ecx
  jnz 5b
  mov $'D',%al
  out %al,%dx
  mov $0xf4,%edx
  mov $0x10,%al
  out %al,%dx
4: hlt
  jmp 4b
.align 8
gdt: .quad 0
 .quad 0x00cf9a000000ffff
 .quad 0x00cf92000000ffff
 .quad 0x00af9a000000ffff
gdtr: .word gdtr-gdt-1
 .long gdt
.org 510
.word 0xaa55
