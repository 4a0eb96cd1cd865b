// Public: what is installed, what was chosen and why, and what to do about what is missing.
export { type Check, type DoctorOptions, type DoctorReport, doctor, formatDoctor } from '../build/doctor.js'
