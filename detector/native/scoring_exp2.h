/* Of 2^f for f from -1/2 to 1/2, where the exponent is put together by hand. */
#define EXP2_0 1.000000072f
#define EXP2_1 0.6931469671f
#define EXP2_2 0.2402211972f
#define EXP2_3 0.05550713276f
#define EXP2_4 0.00967554154f
#define EXP2_5 0.001327647174f
#define LOWEST_EXPONENT -126.0f
#define ROUNDS_TO_ONES 12582912.0f /* 1.5 * 2^23 */
