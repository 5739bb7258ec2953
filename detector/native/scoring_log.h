/* Of (log(1 + x) - x + x^2/2) / x^3, relative error of the logarithm 7.5e-10. */
#define LOG_0 0.333333126f
#define LOG_1 -0.250000096f
#define LOG_2 0.2000211868f
#define LOG_3 -0.1666799587f
#define LOG_4 0.1421955194f
#define LOG_5 -0.1240558823f
#define LOG_6 0.1188816483f
#define LOG_7 -0.1167565748f
#define LOG_8 0.06746641783f
