"""What both programs need of the machine: durable files, threads' structs, settings, services, memory."""
